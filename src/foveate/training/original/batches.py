# SPDX-License-Identifier: Apache-2.0
"""Batches of the published training: windows for DeepMask and SharpMask, regions for detectors.

``WindowSource`` and ``RegionSource`` are both a ``foveate.training.loader.Source``.
"""

import json
import logging
from dataclasses import KW_ONLY, dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import foveate
from foveate.arrays import UInt8Array
from foveate.bundle import Bundle
from foveate.datasets import CocoDataset
from foveate.errors import InputError, OptionError
from foveate.evaluation.legacy import LegacyOptions
from foveate.models.deepmask import DeepMask
from foveate.models.multipathnet import INTEGRAL_THRESHOLDS, MultiPathNet
from foveate.models.sharpmask import SharpMask, deepmask_of
from foveate.progress import Progress
from foveate.system.files import write_file
from foveate.training.resume import Origin, is_current, stamp
from foveate.training.sampling.boxes import ProposalTable
from foveate.training.sampling.regions import RegionSampler
from foveate.training.sampling.samplers import MaskSampler, ScoreSampler
from foveate.training.sampling.samples import (
    MaskSample,
    MaskSamplerOptions,
    RegionSample,
    RegionSamplerOptions,
    Sampler,
    ScoreSample,
    ScoreSamplerOptions,
    WindowOptions,
)

_log = logging.getLogger(__name__)


def _head_generator(seed: int, step: int) -> np.random.Generator:
    # The last number keeps the choice of a step's head apart from the generators of its samples.
    return np.random.default_rng([seed, step, 0, 1 << 20])


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Windows for one head of DeepMask.

    Args:
        head: Head that they train.
        patches: (N, S, S, 3) uint8 RGB.
        labels: (N, L, L) uint8 masks, or (N,) uint8 scores, 1 or 0.
    """

    head: Literal["mask", "score"]
    patches: UInt8Array
    labels: UInt8Array

    def tensors(self, network: DeepMask) -> tuple[Tensor, Tensor]:
        """Copy the batch to the device of a network.

        Returns:
            (N, 3, S, S) float32 patches, normalized for the network's trunk, and float32 labels.
        """
        device = network.mask.weight.device
        patches = network.trunk.normalization(torch.from_numpy(self.patches).to(device))
        return patches, torch.from_numpy(self.labels).to(device).float()


@dataclass(frozen=True)
class WindowSource:
    """Mask batches and, for a share of the steps, score batches.

    Args:
        masks: Sampler of windows with masks.
        scores: Sampler of windows with scores; None for mask batches only.
        score_share: Probability of a score batch.
        seed: Seed of the training, which decides the head of each step.
    """

    masks: Sampler[MaskSample]
    scores: Sampler[ScoreSample] | None
    _: KW_ONLY
    score_share: float
    seed: int

    def draw(self, step: int, rng: np.random.Generator) -> MaskSample | ScoreSample:
        """Draw a sample for the head of this step."""
        if self.scores is not None and self.head(step) == "score":
            return self.scores.draw(rng)
        return self.masks.draw(rng)

    def head(self, step: int) -> Literal["mask", "score"]:
        """Return the head that a step trains; all samples of a batch train the same."""
        return "score" if _head_generator(self.seed, step).random() < self.score_share else "mask"

    def collate(self, samples: list[MaskSample | ScoreSample]) -> WindowBatch:
        """Stack samples."""
        patches = np.stack([sample.patch for sample in samples])
        masks = [sample.mask for sample in samples if isinstance(sample, MaskSample)]
        if masks:
            return WindowBatch(head="mask", patches=patches, labels=np.stack(masks))
        labels = np.stack([sample.label for sample in samples if isinstance(sample, ScoreSample)])
        return WindowBatch(head="score", patches=patches, labels=labels)


def window_source(
    network: DeepMask | SharpMask,
    dataset: CocoDataset,
    legacy: LegacyOptions,
    *,
    score_share: float,
    seed: int,
) -> WindowSource:
    """Return the windows that a DeepMask, or the refinement of a SharpMask, is trained on.

    The sizes of the network decide those of patches and labels; see ``WindowSource`` for the rest.
    """
    deepmask = deepmask_of(network)
    window = WindowOptions(
        patch=deepmask.patch_side,
        window=deepmask.window,
        # The paper's 128 px in a window of 224.
        canonical=float(ceil(deepmask.window * 128 / 224)),
    )
    label_side = deepmask.supervised_side if network is deepmask else deepmask.window
    options = MaskSamplerOptions(window=window, label_side=label_side)
    masks, scores = MaskSampler(dataset, options, legacy), None
    if score_share:
        scores = ScoreSampler(dataset, ScoreSamplerOptions(window=window), legacy)
    return WindowSource(masks, scores, score_share=score_share, seed=seed)


@dataclass(frozen=True, kw_only=True)
class RegionBatch:
    """Images with regions for one integral head of a detector.

    Args:
        head: Number of the head, from 0.
        samples: Images, which may differ in size.
    """

    head: int
    samples: list[RegionSample]


@dataclass(frozen=True)
class RegionSource:
    """Images with their regions.

    Args:
        regions: Sampler of images and regions.
        heads: Number of integral heads.
        seed: Seed of the training, which decides the head of each step.
    """

    regions: RegionSampler
    _: KW_ONLY
    heads: int
    seed: int

    def head(self, step: int) -> int:
        """Return the head that a step trains: all are equally likely."""
        return int(_head_generator(self.seed, step).integers(self.heads))

    def draw(self, step: int, rng: np.random.Generator) -> tuple[int, RegionSample]:
        """Draw an image for the head of this step."""
        head = self.head(step)
        return head, self.regions.draw(rng, head)

    def collate(self, samples: list[tuple[int, RegionSample]]) -> RegionBatch:
        """Gather images."""
        return RegionBatch(head=samples[0][0], samples=[sample for _, sample in samples])


def region_options(name: str, network: MultiPathNet) -> RegionSamplerOptions:
    """Return the published options: for COCO with MultiPathNet, for Pascal VOC with Fast R-CNN."""
    thresholds = INTEGRAL_THRESHOLDS[: len(network.class_heads)]
    if name.startswith("fast-rcnn"):
        return RegionSamplerOptions(regions=128, thresholds=thresholds, short_side=600)
    return RegionSamplerOptions(thresholds=thresholds)


def open_proposals(
    source: Path, dataset: CocoDataset, cache: Path, task: str, progress: Progress, *, alone: bool
) -> ProposalTable:
    """Read the proposals of a data set from a file, or run a bundle that proposes them.

    The source is a file of COCO results, or a bundle, by its path or the name of a shipped one,
    whose proposals are kept in the file ``cache``; only a process that is ``alone`` runs it.
    ``progress`` is called with ``task`` and the number of finished images.

    Raises:
        DataError: The file cannot be read.
        BundleError: The bundle cannot be opened.
        OptionError: The bundle was not run yet, and there are several processes.
    """
    if source.suffix == ".json":
        return ProposalTable.read(source)
    files = Bundle.open(source).manifest.files
    digests = sorted((name, file.sha256) for name, file in files.items())
    origin = Origin(inputs={"the annotations or images": dataset.digest, "the bundle": digests})
    if not is_current(cache, origin):
        if not alone:
            raise OptionError(
                "a bundle proposes in one process only, which may take hours",
                remedy="start with one process until it trains, or pass a file of proposals",
            )
        results = _propose(source, dataset, task, progress)
        write_file(cache, json.dumps(results).encode())
        stamp(cache, origin)
    return ProposalTable.read(cache)


def _propose(
    source: Path, dataset: CocoDataset, task: str, progress: Progress
) -> list[dict[str, Any]]:
    """Return proposals as COCO results; a broken image has none."""
    results: list[dict[str, Any]] = []
    with foveate.load(source) as pipeline:
        for index in range(len(dataset)):
            progress(task, index + 1, len(dataset))
            try:
                proposals = pipeline.propose(dataset.path(index))
            except InputError as error:
                _log.warning("nothing is proposed in an image: %s", error)
                continue
            identifier = int(dataset.annotations.image_ids[index])
            for box, score in zip(proposals.boxes.tolist(), proposals.scores.tolist(), strict=True):
                x0, y0, x1, y1 = (round(value, 2) for value in box)
                bbox = [x0, y0, x1 - x0, y1 - y0]
                results.append({"image_id": identifier, "bbox": bbox, "score": score})
    return results
