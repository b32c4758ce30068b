# SPDX-License-Identifier: Apache-2.0
"""Windows with the frozen trunk's features, computed once and read in every epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.models.sharpmask import SKIP_STRIDES
from foveate.training.mini.views import LabelRules
from foveate.typed_options import TypedOptions

HALO = 2
"""Cells kept around a fine window: what the two 3x3 convolutions of a horizontal half reach."""

MASKS_PER_VIEW = 2


@dataclass(frozen=True, kw_only=True)
class CacheOptions(TypedOptions):
    """How much to cache.

    Attributes:
        views_per_image: views drawn of every image.
        fine_every: of which every n-th also keeps the features that SharpMask reads.
        seed: fixes all draws.
        rules: the labels.
    """

    views_per_image: int = 3
    fine_every: int = 2
    seed: int = 0
    rules: LabelRules = field(default_factory=LabelRules)


class WindowCache:
    """Arrays of finished caches, one after the other, each read into memory when it is first used.

    Windows are drawn at random, so a mapped file would be read page by page, slower than they are
    trained on.

    Args:
        directories: of the caches, at least one.
    """

    def __init__(self, *directories: Path):
        self._directories = directories

    @cached_property
    def coarse(self) -> NDArray[np.float16]:
        """(V, C, 20, 20) stride-16 features under the inner windows of each view."""
        return self._read("coarse")

    @cached_property
    def scores(self) -> NDArray[np.int8]:
        """(V, 11, 11) labels as in `View`."""
        return self._read("scores")

    @cached_property
    def mask_views(self) -> NDArray[np.int32]:
        """(M,) view of each labelled mask."""
        return self._read_index("mask_views", of="coarse")

    @cached_property
    def mask_cells(self) -> NDArray[np.int8]:
        """(M, 2) row and column of its window among the inner ones."""
        return self._read("mask_cells")

    @cached_property
    def mask_labels(self) -> NDArray[np.uint8]:
        """(M, 160, 160), 255 on the object."""
        return self._read("mask_labels")

    @cached_property
    def fine_masks(self) -> NDArray[np.int32]:
        """(F,) index into the mask arrays of each fine window."""
        return self._read_index("fine_masks", of="mask_cells")

    @cached_property
    def fine(self) -> dict[int, NDArray[np.float16]]:
        """Stride -> (F, C, S + 4, S + 4) features under the window and `HALO` around."""
        return {stride: self._read(f"fine_{stride}") for stride in SKIP_STRIDES}

    def _read(self, name: str) -> NDArray[Any]:
        """Read an array of every cache into one, which never stands in memory twice."""
        mapped = [np.load(path / f"{name}.npy", mmap_mode="r") for path in self._directories]
        length = sum(len(array) for array in mapped)
        joined: NDArray[Any] = np.empty((length, *mapped[0].shape[1:]), mapped[0].dtype)
        return np.concatenate(mapped, out=joined)

    def _read_index(self, name: str, *, of: str) -> NDArray[np.int32]:
        """Read indices into another array, moved on by what the caches before have of it."""
        parts, first = [], 0
        for path in self._directories:
            parts.append(np.load(path / f"{name}.npy") + np.int32(first))
            first += len(np.load(path / f"{of}.npy", mmap_mode="r"))
        return np.concatenate(parts)


def small_labels(labels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Shrink (K, 160, 160) uint8 labels to (K, side, side) shares in [0, 1], by area."""
    shrunk = [cv2.resize(label, (side, side), interpolation=cv2.INTER_AREA) for label in labels]
    shares: NDArray[np.float32] = np.stack(shrunk).astype(np.float32) / np.float32(255)
    return shares
