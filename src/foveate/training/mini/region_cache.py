# SPDX-License-Identifier: Apache-2.0
"""Proposals and feature maps of the training images, computed once for MultiPathNet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.datasets import CocoDataset
from foveate.system.files import open_output
from foveate.training.mini.frozen_trunk import FrozenTrunk
from foveate.training.origin import Origin, is_current, stamp
from foveate.typed_options import TypedOptions

STRIDES = (8, 16, 32)


class ProposalBoxes(Protocol):
    """Proposes boxes."""

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map a (H, W, 3) uint8 RGB image to (N, 4) xyxy in image pixels, best first."""


@dataclass(frozen=True, kw_only=True)
class RegionOptions(TypedOptions):
    """Size of the image that the trunk sees.

    Attributes:
        short_side: its shorter side.
        long_side: bound of its longer side.
        images: how many images with objects to cache; finding their proposals is most of the
            cost.
    """

    short_side: int = 576
    long_side: int = 1024
    images: int = 600


@dataclass(frozen=True, kw_only=True)
class RegionSample:
    """One image as MultiPathNet trains on it; boxes are xyxy in pixels of the trunk's canvas.

    Attributes:
        maps: stride -> (C, H, W) float16 features.
        proposals: (N, 4) float32, best first.
        truths: (M, 4) float32 boxes of the objects.
        labels: (M,) int64 their classes, from 1.
    """

    maps: dict[int, NDArray[np.float16]]
    proposals: NDArray[np.float32]
    truths: NDArray[np.float32]
    labels: NDArray[np.int64]


class RegionCache:
    """A directory with one file an image, each kept in memory once it was read."""

    def __init__(self, directory: Path):
        self._files = sorted(directory.glob("*.npz"))
        self._samples: dict[int, RegionSample] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> RegionSample:
        if index not in self._samples:
            self._samples[index] = _read(self._files[index])
        return self._samples[index]


def _read(file: Path) -> RegionSample:
    with np.load(file) as content:
        return RegionSample(
            maps={stride: content[f"map_{stride}"] for stride in STRIDES},
            proposals=content["proposals"],
            truths=content["truths"],
            labels=content["labels"],
        )


def build_regions(
    dataset: CocoDataset,
    trunk: FrozenTrunk,
    propose: ProposalBoxes,
    directory: Path,
    origin: Origin,
    options: RegionOptions,
    progress: Callable[[int, int], None],
) -> RegionCache:
    """Fill the cache, going on where an earlier call stopped.

    Args:
        dataset: the images.
        trunk: up to stride 32.
        propose: SharpMask's proposals.
        directory: one file an image, each of which appears in one step.
        origin: what `propose` and its options depend on.
        options: see `RegionOptions`.
        progress: called with images done and their number.
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
        if not file.exists():
            sample = _sample(dataset, index, trunk, propose, options)
            with open_output(file) as stream:
                np.savez(stream, allow_pickle=False, **dict(_arrays(sample)))
        progress(done, len(chosen))
    return RegionCache(directory)


def _arrays(sample: RegionSample) -> Iterator[tuple[str, NDArray[np.generic]]]:
    yield from ((f"map_{stride}", sample.maps[stride]) for stride in STRIDES)
    yield "proposals", sample.proposals
    yield "truths", sample.truths
    yield "labels", sample.labels


def _sample(
    dataset: CocoDataset,
    index: int,
    trunk: FrozenTrunk,
    propose: ProposalBoxes,
    options: RegionOptions,
) -> RegionSample:
    image, instances = dataset.image(index), dataset.instances(index)
    canvas, factor = features_canvas(image, options)
    features = trunk(canvas)
    truths = np.array([i.box for i in instances], np.float32).reshape(-1, 4)
    return RegionSample(
        maps={stride: features[stride].astype(np.float16) for stride in STRIDES},
        proposals=propose(image) * factor,
        truths=truths * factor,
        labels=np.array([i.label + 1 for i in instances], np.int64),
    )


def features_canvas(
    image: NDArray[np.uint8], options: RegionOptions
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Resize an image as the runtime does for the features stage.

    Returns:
        The canvas (H, W, 3) uint8, sides multiples of 32, and (4,) float32 factors from image
        to canvas coordinates of xyxy boxes.
    """
    height, width = image.shape[:2]
    scale = min(options.short_side / min(height, width), options.long_side / max(height, width))
    new_width, new_height = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=method)
    canvas = np.full((-(-new_height // 32) * 32, -(-new_width // 32) * 32, 3), 127, np.uint8)
    canvas[:new_height, :new_width] = resized
    factor = np.array([new_width / width, new_height / height] * 2, np.float32)
    return canvas, factor
