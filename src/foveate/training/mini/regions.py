# SPDX-License-Identifier: Apache-2.0
"""Regions of MultiPathNet: cached proposals and feature maps of images, and its training step."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.arrays import Float32Array, Int64Array, UInt8Array
from foveate.bundle import FeaturesSpec, Manifest
from foveate.datasets import CocoDataset
from foveate.images.resampling import resample
from foveate.models.losses import box_loss, integral_loss
from foveate.models.multipathnet import INTEGRAL_THRESHOLDS, MultiPathNet
from foveate.progress import Progress
from foveate.runtime.sizes import Sizes, classifier_scale, nearest_level
from foveate.system.files import open_output
from foveate.training.loop import Losses, Step, distinct
from foveate.training.mini.trunk import FrozenTrunk
from foveate.training.resume import Origin, is_current, stamp
from foveate.training.sampling.boxes import BoxStatistics, box_iou, encode_deltas, inside_share
from foveate.typed_options import TypedOptions

STRIDES = (8, 16, 32)


# Returns (N, 4) xyxy boxes in pixels of a (H, W, 3) uint8 RGB image, best first.
ProposalBoxes = Callable[[UInt8Array], Float32Array]


@dataclass(frozen=True, kw_only=True)
class RegionOptions(TypedOptions):
    """The images that MultiPathNet learns from.

    Args:
        short_side: Shorter side of the image that the classifier sees: it reads the nearest level.
        long_side: Bound of its longer side.
        images: Number of images with objects to cache; finding their proposals is most of the cost.
    """

    short_side: int = 576
    long_side: int = 1024
    images: int = 600


@dataclass(frozen=True, kw_only=True)
class CachedRegions:
    """One image as MultiPathNet trains on it; boxes are xyxy in pixels of the level's canvas.

    Args:
        maps: (C, H, W) float16 features by stride.
        proposals: (N, 4) float32 boxes, best first.
        truths: (M, 4) float32 boxes of the objects.
        labels: (M,) int64 classes of the objects, from 1.
        crowds: (C, 4) float32 boxes of the crowds.
    """

    maps: dict[int, NDArray[np.float16]]
    proposals: Float32Array
    truths: Float32Array
    labels: Int64Array
    crowds: Float32Array


def read_regions(file: Path) -> CachedRegions:
    """Read one file of the cache."""
    with np.load(file) as content:
        maps = {stride: content[f"map_{stride}"] for stride in STRIDES}
        rest = {name: content[name] for name in ("proposals", "truths", "labels", "crowds")}
    return CachedRegions(maps=maps, **rest)


def images_of_each(datasets: Sequence[CocoDataset], images: int) -> list[int]:
    """Divide a number of images among data sets in proportion to their images with objects."""
    tables = [dataset.annotations for dataset in datasets]
    ends = np.cumsum([0] + [len(np.unique(table.images[~table.crowds])) for table in tables])
    shares: list[int] = np.diff(ends * min(images, ends[-1]) // ends[-1]).tolist()
    return shares


def build_regions(
    dataset: CocoDataset,
    trunk: FrozenTrunk,
    propose: ProposalBoxes,
    manifest: Manifest,
    directory: Path,
    origin: Origin,
    options: RegionOptions,
    progress: Progress,
) -> list[CachedRegions]:
    """Fill a directory with one file per image, and read them; an interrupted call is resumed.

    Each file appears atomically. ``manifest`` has the pyramid of ``propose``; ``origin`` is
    everything that ``propose`` and its options depend on; ``progress`` is called with the number of
    finished images.
    """
    if not is_current(directory, origin):
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
        stamp(directory, origin)
    table = dataset.annotations
    chosen = np.unique(table.images[~table.crowds])[: options.images].tolist()
    for done, index in enumerate(chosen, start=1):
        file = directory / f"{index:06d}.npz"
        # A file that exists is complete: `open_output` renames it when it is complete.
        if not file.exists():
            sample = _sample(dataset, index, trunk, propose, manifest, options)
            arrays = vars(sample) | {f"map_{stride}": sample.maps[stride] for stride in STRIDES}
            del arrays["maps"]
            with open_output(file) as stream:
                np.savez(stream, allow_pickle=False, **arrays)
        progress("regions", done, len(chosen))
    return [read_regions(file) for file in sorted(directory.glob("*.npz"))]


def _sample(
    dataset: CocoDataset,
    index: int,
    trunk: FrozenTrunk,
    propose: ProposalBoxes,
    manifest: Manifest,
    options: RegionOptions,
) -> CachedRegions:
    image, instances = dataset.image(index), dataset.instances(index)
    canvas, factor = level_canvas(image, manifest, options)
    features, offset = trunk(canvas), np.float32(manifest.windows.padding)
    truths = np.array([i.box for i in instances], np.float32).reshape(-1, 4)
    table, rows = dataset.annotations, dataset.rows(index)
    crowds = table.boxes[rows[table.crowds[rows]]].astype(np.float32)
    crowds[:, 2:] += crowds[:, :2]
    return CachedRegions(
        maps={stride: features[stride].astype(np.float16) for stride in STRIDES},
        proposals=propose(image) * factor + offset,
        truths=truths * factor + offset,
        labels=np.array([i.label + 1 for i in instances], np.int64),
        crowds=crowds * factor + offset,
    )


def level_canvas(
    image: UInt8Array, manifest: Manifest, options: RegionOptions
) -> tuple[UInt8Array, Float32Array]:
    """Make the canvas of the level that a classifier sees, as the runtime does.

    Args:
        image: (H, W, 3) uint8 RGB.
        manifest: Manifest with the pyramid and the windows.
        options: Size at which the classifier sees an image.

    Returns:
        The canvas (Hc, Wc, 3) uint8, and (4,) float32 factors from the image to the level of xyxy
        boxes, which the padding of the windows then moves to the canvas.
    """
    height, width = image.shape[:2]
    sizes = Sizes.of(height, width, manifest)
    seen = FeaturesSpec(short_side=options.short_side, long_side=options.long_side)
    scale = classifier_scale(sizes.working_height, sizes.working_width, seen)
    level = sizes.levels[nearest_level(manifest.pyramid.scales, scale)]
    working = resample(image, sizes.working_height, sizes.working_width)
    canvas = np.full(
        (level.canvas_height, level.canvas_width, 3), manifest.preprocessing.fill, np.uint8
    )
    first = manifest.windows.padding
    inside = slice(first, first + level.height), slice(first, first + level.width)
    canvas[inside] = resample(working, level.height, level.width)
    return canvas, np.array([level.width / width, level.height / height] * 2, np.float32)


REGIONS_PER_IMAGE = 64
FOREGROUND_SHARE = 0.25  # as in the paper (section 4)
FOREGROUND_IOU = 0.5
# Share of a region in the box of a crowd from which it is no background: it may show an object that
# nobody outlined.
CROWD_OVERLAP = 0.5


def multipathnet_step(
    network: MultiPathNet,
    cache: Sequence[CachedRegions],
    statistics: BoxStatistics,
    images: int = 4,
) -> Step:
    """Return the step of MultiPathNet for ``train_adamw``; the trunk is frozen in place.

    ``statistics`` normalize the box targets. A batch has ``images`` images, or all of the cache if
    it has fewer.
    """
    network.trunk.requires_grad_(False)
    # The trunk is frozen, so that each image is pooled once, before the first step.
    batches = [_pooled_batch(network, sample, index) for index, sample in enumerate(cache)]

    def step(rng: np.random.Generator) -> Losses:
        chosen = [batches[index] for index in distinct(rng, len(batches), images)]
        towers = zip(*(batch.pooled for batch in chosen), strict=True)
        # Autocast cannot concatenate float16, so each is converted back to float32 first.
        pooled = [torch.cat([regions.float() for regions in tower]) for tower in towers]
        logits, deltas = network.logits(pooled)
        labels = torch.cat([batch.labels for batch in chosen], dim=1)
        targets = np.concatenate([batch.targets for batch in chosen])
        normalized = torch.from_numpy(statistics.normalize(targets))
        return {
            "class": integral_loss(logits.float(), labels),
            "box": box_loss(deltas.float(), normalized, labels[0]),
        }

    return step


@dataclass(frozen=True, kw_only=True)
class _PooledBatch:
    """The regions of an image, pooled by the frozen trunk: 9 MB for 64 regions."""

    pooled: list[Tensor]  # (R, C, P, P) float16 for each tower
    labels: Tensor  # (heads, R) int64
    targets: Float32Array  # (R, 4), not normalized


def _pooled_batch(network: MultiPathNet, sample: CachedRegions, seed: int) -> _PooledBatch:
    boxes, labels, targets = _draw_regions(sample, np.random.default_rng(seed))
    maps = {s: torch.from_numpy(m.astype(np.float32))[None] for s, m in sample.maps.items()}
    with torch.no_grad():
        pooled = [regions.half() for regions in network.pool(maps, torch.from_numpy(boxes))]
    return _PooledBatch(pooled=pooled, labels=torch.from_numpy(labels), targets=targets)


def delta_statistics(cache: Sequence[CachedRegions]) -> BoxStatistics:
    """Measure the box targets of the foregrounds of the first 300 images."""
    rng = np.random.default_rng(0)
    found = []
    for sample in cache[:300]:
        _, labels, targets = _draw_regions(sample, rng)
        found.append(targets[labels[0] > 0])
    deltas = np.concatenate(found)
    return BoxStatistics(mean=tuple(deltas.mean(0).tolist()), std=tuple(deltas.std(0).tolist()))


def _draw_regions(
    sample: CachedRegions, rng: np.random.Generator
) -> tuple[Float32Array, Int64Array, Float32Array]:
    """Draw the regions of an image: boxes (R, 4), labels (heads, R) and box targets (R, 4)."""
    candidates = np.concatenate([sample.proposals, jittered(sample.truths, rng), sample.truths])
    iou = box_iou(candidates, sample.truths)
    best, overlap = iou.argmax(1), iou.max(1)
    foreground = np.flatnonzero(overlap >= FOREGROUND_IOU)
    crowded = inside_share(candidates, sample.crowds).max(1, initial=0) >= CROWD_OVERLAP
    background = np.flatnonzero((overlap < FOREGROUND_IOU) & ~crowded)
    wanted = round(REGIONS_PER_IMAGE * FOREGROUND_SHARE)
    shown = rng.permutation(foreground)[:wanted]
    others = rng.permutation(background)[: REGIONS_PER_IMAGE - wanted]
    chosen = np.concatenate([shown, others])
    best, overlap = best[chosen], overlap[chosen]
    labels = [np.where(overlap >= least, sample.labels[best], 0) for least in INTEGRAL_THRESHOLDS]
    targets = encode_deltas(candidates[chosen], sample.truths[best])
    return candidates[chosen], np.stack(labels), targets


def jittered(boxes: Float32Array, rng: np.random.Generator, copies: int = 4) -> Float32Array:
    """Move and stretch (N, 4) xyxy boxes at random: (copies * N, 4)."""
    repeated = np.repeat(boxes, copies, axis=0)
    size = repeated[:, 2:] - repeated[:, :2]
    center = (repeated[:, :2] + repeated[:, 2:]) / 2 + rng.normal(0, 0.12, size.shape) * size
    size = size * np.exp(rng.normal(0, 0.2, size.shape))
    return np.concatenate([center - size / 2, center + size / 2], axis=1).astype(np.float32)
