# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN: images with regions, the integral loss, and box regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.models.losses import box_loss, integral_loss
from foveate.models.multipathnet import MultiPathNet, mean_of_softmaxes
from foveate.training.loop import Losses
from foveate.training.original.sheets import region_sheet
from foveate.training.sampling import RegionSample

_HEAD_STREAM = 1 << 20
"""Keeps the choice of a step's head apart from the generators of its samples."""


@dataclass(frozen=True, kw_only=True)
class RegionBatch:
    """Images with regions for one integral head.

    Attributes:
        head: the head, from 0.
        samples: the images, which may differ in size.
    """

    head: int
    samples: list[RegionSample]


class HeadSampler(Protocol):
    """What `RegionSource` draws from; `RegionSampler` is one."""

    def draw(self, rng: np.random.Generator, head: int | None = None) -> RegionSample:
        """Draw an image with regions by the threshold of a head."""


class RegionSource:
    """Draws images with their regions: a `training.loader.Source`.

    Args:
        regions: sampler of images and regions.
        heads: number of integral heads.
        seed: of the training, which decides the head of each step.
    """

    def __init__(self, regions: HeadSampler, *, heads: int, seed: int):
        self._regions = regions
        self._heads = heads
        self._seed = seed

    def head(self, step: int) -> int:
        """Tell which head a step trains: all are equally likely."""
        rng = np.random.default_rng([self._seed, step, 0, _HEAD_STREAM])
        return int(rng.integers(self._heads))

    def draw(self, step: int, rng: np.random.Generator) -> tuple[int, RegionSample]:
        """Draw an image for the head of this step."""
        head = self.head(step)
        return head, self._regions.draw(rng, head)

    def collate(self, samples: list[tuple[int, RegionSample]]) -> RegionBatch:
        """Put images side by side."""
        return RegionBatch(head=samples[0][0], samples=[sample for _, sample in samples])


class MultiPathNetTask:
    """All of a detector that is not frozen, with one optimiser and one integral head a step.

    As released: a batch is drawn and labelled by one head's threshold and trains that head
    (section 3.3 of the paper has the sum over heads, of which this is a sample).

    Args:
        network: on the device that it is trained on.
    """

    def __init__(self, network: MultiPathNet):
        self.network: MultiPathNet = network

    def parts(self) -> dict[str, nn.ModuleList]:
        """Everything."""
        return {"detector": nn.ModuleList([self.network])}

    def stepped(self, batch: RegionBatch) -> tuple[str, ...]:  # noqa: ARG002 - there is one part
        """Everything."""
        return ("detector",)

    def train_mode(self) -> None:
        """Turn dropout on."""
        self.network.train()

    def losses(self, batch: RegionBatch) -> Losses:
        """Compute the integral loss of the classes and smooth L1 of the boxes."""
        class_logits, deltas = self._answer(batch.samples)
        device = deltas.device
        labels = torch.from_numpy(np.concatenate([s.labels for s in batch.samples], axis=1))
        labels = labels[batch.head].to(device)
        targets = torch.from_numpy(np.concatenate([s.targets for s in batch.samples])).to(device)
        return {
            "class": integral_loss(class_logits[batch.head, None].float(), labels[None]),
            "box": box_loss(deltas.float(), targets, labels),
        }

    def objective(self, losses: Losses) -> Tensor:
        """Add both, with equal weights."""
        return losses["class"] + losses["box"]

    def sheet(self, batch: RegionBatch) -> NDArray[np.uint8]:
        """Draw the first image's regions, by what the network calls them."""
        with torch.inference_mode():
            class_logits, _ = self._answer(batch.samples[:1])
            found = mean_of_softmaxes(class_logits.float()).argmax(1).cpu().numpy()
        return region_sheet(batch.samples[0], found)

    def _answer(self, samples: list[RegionSample]) -> tuple[Tensor, Tensor]:
        """Run the trunk on each image, and the towers on the regions of all of them at once."""
        network = self.network
        pooled = [self._pool(sample) for sample in samples]
        return network.logits([torch.cat(regions) for regions in zip(*pooled, strict=True)])

    def _pool(self, sample: RegionSample) -> list[Tensor]:
        network = self.network
        device = network.box_head.weight.device
        image = torch.from_numpy(sample.image).to(device)[None]
        features = network.features(network.trunk.normalisation(image))
        return network.pool(features, torch.from_numpy(sample.boxes).to(device))
