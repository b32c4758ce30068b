# SPDX-License-Identifier: Apache-2.0
"""Regions of MultiPathNet: proposals and ground truth, of which a quarter shows objects."""

from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np

from foveate.arrays import Float32Array, Int64Array, UInt8Array
from foveate.datasets import CocoDataset
from foveate.datasets.splits import no_objects
from foveate.errors import DataError
from foveate.evaluation.legacy import LegacyOptions
from foveate.training.sampling.boxes import (
    BoxStatistics,
    ProposalTable,
    box_iou,
    encode_deltas,
    inside_share,
)
from foveate.training.sampling.samples import RegionSample, RegionSamplerOptions

# After this many images in a row without foreground or background, something must be wrong.
_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All N boxes of an image that may be drawn.

    Args:
        boxes: (N, 4) float32 xyxy in pixels of the image: ground truth first, then proposals.
        truths: (N, 4) float32 box of the object that each overlaps most.
        labels: (N,) int64 class of that object, from 1.
        overlaps: (N,) float32 IoU with it; -1 for a proposal in a crowd, which is not drawn.
    """

    boxes: Float32Array
    truths: Float32Array
    labels: Int64Array
    overlaps: Float32Array

    def between(self, low: float, high: float = np.inf) -> Int64Array:
        """Return indices of boxes that overlap an object by at least ``low``, below ``high``."""
        return np.flatnonzero((self.overlaps >= low) & (self.overlaps < high))


@dataclass(frozen=True)
class RegionSampler:
    """Sampler of images, and of regions in them with their classes and box targets.

    Images are equally likely; another is drawn if one lacks foreground or background.

    Args:
        dataset: Images and objects.
        proposals: Proposals of these images.
        statistics: Statistics of the box targets; see ``measure_statistics``.
        options: Sizes and shares.
        legacy: Quirks of the original code.
    """

    dataset: CocoDataset
    proposals: ProposalTable
    statistics: BoxStatistics
    options: RegionSamplerOptions = field(default_factory=RegionSamplerOptions)
    legacy: LegacyOptions = field(default_factory=LegacyOptions)

    def draw(self, rng: np.random.Generator, head: int | None = None) -> RegionSample:
        """Draw a sample; see ``RegionSample``.

        Args:
            rng: The only source of randomness.
            head: Integral head whose threshold separates foreground from background, as published
                for a batch that trains one head; by default the first one, for a batch that trains
                all.

        Raises:
            DataError: The image that was drawn is broken, or no image has both kinds.
        """
        thresholds = self.options.thresholds
        threshold = thresholds[head or 0]
        if self.legacy.mismatched_heads:
            threshold = thresholds[rng.integers(len(thresholds))]
            thresholds = (threshold,) * len(thresholds)
        index, found, chosen = self._choose(rng, threshold)
        overlaps = found.overlaps[chosen]
        labels = [np.where(overlaps >= t, found.labels[chosen], 0) for t in thresholds]
        mirrored = bool(rng.random() < self.options.flip)
        image = self.dataset.image(index)
        resized, factor = resize_for_trunk(image, self.options.short_side, self.options.long_side)
        boxes, truths = found.boxes[chosen] * factor, found.truths[chosen] * factor
        if mirrored:
            resized = np.ascontiguousarray(resized[:, ::-1])
            boxes, truths = (_mirrored(b, resized.shape[1]) for b in (boxes, truths))
        targets = self.statistics.normalize(encode_deltas(boxes, truths))
        targets[labels[0] == 0] = 0
        return RegionSample(
            image=resized, boxes=boxes, labels=np.stack(labels).astype(np.int64), targets=targets
        )

    def _choose(
        self, rng: np.random.Generator, threshold: float
    ) -> tuple[int, Candidates, Int64Array]:
        """Draw an image, and choose among its candidates."""
        options = self.options
        for _ in range(_IMAGES):
            index = int(rng.integers(len(self.dataset)))
            found = region_candidates(self.dataset, self.proposals, index, options, self.legacy)
            foreground = found.between(threshold)
            background = found.between(options.least_overlap, threshold)
            if len(foreground) and len(background):
                return index, found, self._take(rng, foreground, background)
        raise DataError(
            f"none of {_IMAGES} images in a row has a region that shows an object "
            f"(IoU >= {threshold:g}) and one that does not (IoU from {options.least_overlap:g})",
            file=self.dataset.file,
            remedy="check that the proposals are of these images, by their ids, in x, y, w, h",
        )

    def _take(
        self, rng: np.random.Generator, foreground: Int64Array, background: Int64Array
    ) -> Int64Array:
        """Draw with replacement, as published, so that the shares never change."""
        wanted = round(self.options.regions * self.options.foreground)
        counts = [wanted, self.options.regions - wanted]
        if self.legacy.short_batches:
            counts = [min(counts[0], len(foreground)), min(counts[1], len(background))]
        return np.concatenate(
            [rng.choice(foreground, counts[0]), rng.choice(background, counts[1])]
        )


def region_candidates(
    dataset: CocoDataset,
    proposals: ProposalTable,
    index: int,
    options: RegionSamplerOptions,
    legacy: LegacyOptions,
) -> Candidates:
    """List the ground truth and the proposals of an image (``attachProposals``).

    Objects with an empty box are left out; proposals are clipped to the image, and left out if
    nothing remains.
    """
    table = dataset.annotations
    rows = dataset.rows(index)
    rows = rows[(table.boxes[rows, 2:] > 0).all(1)]
    edge = 1.0 if legacy.inclusive_boxes else 0.0
    corners = table.boxes[rows].astype(np.float32)
    corners[:, 2:] += corners[:, :2] + np.float32(edge)
    crowds = table.crowds[rows]
    truths, labels = corners[~crowds], table.labels[rows][~crowds].astype(np.int64) + 1
    height, width = table.sizes[index].tolist()
    proposed = proposals.of_image(int(table.image_ids[index]), options.proposals)
    proposed = np.clip(proposed, 0, np.array([width, height] * 2, np.float32))
    proposed = proposed[(proposed[:, 2:] > proposed[:, :2]).all(1)]
    boxes = np.concatenate([truths, proposed])
    if not len(truths):
        nothing, none = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.float32)
        return Candidates(boxes=boxes, truths=boxes, labels=nothing, overlaps=none)
    overlaps = box_iou(boxes, truths, edge=edge)
    nearest, best = overlaps.argmax(1), overlaps.max(1)
    if crowds.any():
        inside = inside_share(boxes, corners[crowds], edge=edge).max(1) > options.crowd_overlap
        inside[: len(truths)] = False
        best[inside] = -1
    return Candidates(boxes=boxes, truths=truths[nearest], labels=labels[nearest], overlaps=best)


def measure_statistics(
    dataset: CocoDataset,
    proposals: ProposalTable,
    options: RegionSamplerOptions | None = None,
    legacy: LegacyOptions | None = None,
    images: int = 1000,
) -> BoxStatistics:
    """Measure the box targets of all foregrounds of the first images (``setupData``).

    Args:
        dataset: Images and objects.
        proposals: Proposals of these images.
        options: Options, whose first threshold decides what is foreground.
        legacy: Quirks of the original code.
        images: Number of images to measure.

    Raises:
        DataError: Fewer than two regions are foreground.
    """
    crowds = dataset.annotations.crowds
    if crowds.all():
        raise no_objects(dataset, {"are crowds": crowds})
    options, legacy = options or RegionSamplerOptions(), legacy or LegacyOptions()
    deltas = []
    for index in range(min(images, len(dataset))):
        found = region_candidates(dataset, proposals, index, options, legacy)
        chosen = found.between(options.thresholds[0])
        deltas.append(encode_deltas(found.boxes[chosen], found.truths[chosen]))
    joined = np.concatenate([np.zeros((0, 4), np.float32), *deltas]).astype(np.float64)
    if len(joined) < 2:
        raise DataError(
            f"{len(joined)} regions of the first {images} images show an object, at least 2 "
            "are needed",
            file=dataset.file,
            remedy="check that the proposals are of these images, by their ids, in x, y, w, h",
        )
    # A constant target needs no normalization, and none is possible.
    std = np.maximum(joined.std(axis=0, ddof=1), 1e-6)
    return BoxStatistics(mean=tuple(joined.mean(axis=0).tolist()), std=tuple(std.tolist()))


def resize_for_trunk(
    image: UInt8Array, short_side: int, long_side: int
) -> tuple[UInt8Array, Float32Array]:
    """Resize a (H, W, 3) uint8 RGB image to the largest size within both bounds.

    Returns:
        The image, and (4,) float32 factors for xyxy boxes.
    """
    height, width = image.shape[:2]
    scale = min(short_side / min(height, width), long_side / max(height, width))
    new_width, new_height = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=method)
    factor = np.array([new_width / width, new_height / height] * 2, np.float32)
    return cast("UInt8Array", resized), factor


def _mirrored(boxes: Float32Array, width: int) -> Float32Array:
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = width - boxes[:, [2, 0]]
    return mirrored
