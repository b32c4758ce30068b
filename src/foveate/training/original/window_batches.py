# SPDX-License-Identifier: Apache-2.0
"""Batches of windows for DeepMask and SharpMask: masks and scores in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.models.deepmask import DeepMask
from foveate.training.sampling import MaskSample, Sampler, ScoreSample

_HEAD_STREAM = 1 << 20
"""Keeps the choice of a step's head apart from the generators of its samples."""


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Windows for one head.

    Attributes:
        head: which head they train.
        patches: (N, S, S, 3) uint8 RGB.
        labels: (N, L, L) uint8 masks, or (N,) uint8 scores, 1 or 0.
    """

    head: Literal["mask", "score"]
    patches: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def tensors(self, network: DeepMask) -> tuple[Tensor, Tensor]:
        """Move the batch to a network's device.

        Returns:
            (N, 3, S, S) float32 patches as the network's trunk wants them, and float32 labels.
        """
        device = network.mask.weight.device
        patches = network.trunk.normalisation(torch.from_numpy(self.patches).to(device))
        return patches, torch.from_numpy(self.labels).to(device).float()


class WindowSource:
    """Draws mask batches and, for a share of the steps, score batches: a `training.loader.Source`.

    Args:
        masks: sampler of windows with masks.
        scores: sampler of windows with scores; None for mask batches only.
        score_share: probability of a score batch.
        seed: of the training, which decides the head of each step.
    """

    def __init__(
        self,
        masks: Sampler[MaskSample],
        scores: Sampler[ScoreSample] | None,
        *,
        score_share: float,
        seed: int,
    ):
        self._masks = masks
        self._scores = scores
        self._score_share = score_share
        self._seed = seed

    def draw(self, step: int, rng: np.random.Generator) -> MaskSample | ScoreSample:
        """Draw a sample for the head of this step."""
        if self._scores is not None and self.head(step) == "score":
            return self._scores.draw(rng)
        return self._masks.draw(rng)

    def head(self, step: int) -> Literal["mask", "score"]:
        """Tell which head a step trains; all samples of a batch train the same."""
        rng = np.random.default_rng([self._seed, step, 0, _HEAD_STREAM])
        return "score" if rng.random() < self._score_share else "mask"

    def collate(self, samples: list[MaskSample | ScoreSample]) -> WindowBatch:
        """Stack samples."""
        patches = np.stack([sample.patch for sample in samples])
        masks = [sample.mask for sample in samples if isinstance(sample, MaskSample)]
        if masks:
            return WindowBatch(head="mask", patches=patches, labels=np.stack(masks))
        labels = np.stack([sample.label for sample in samples if isinstance(sample, ScoreSample)])
        return WindowBatch(head="score", patches=patches, labels=labels)
