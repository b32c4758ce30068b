# SPDX-License-Identifier: Apache-2.0
"""Pictures and objects of a data set, as columns; masks are decoded when asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.training.dataset.problems import Problems
from foveate.training.dataset.segmentations import PackedSegmentations, decode_rle

__all__ = ["Annotations"]


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Pictures and objects of a data set as columns; P pictures, N objects, crowds among them.

    Attributes:
        picture_ids: (P,) int64, in the file's order.
        files: their file names, relative to the folder of pictures.
        sizes: (P, 2) int32 height and width in pixels.
        categories: id and name of each category, by id; gaps between ids do not matter.
        ids: (N,) int64. Objects are ordered by picture, and within one as in the file.
        pictures: (N,) int32 index of each object's picture.
        starts: (P + 1,) int64, where each picture's objects start.
        labels: (N,) int32 index of each object's category.
        crowds: (N,) bool, whether it is many objects in one outline.
        areas: (N,) float64 in square pixels, as annotated.
        boxes: (N, 4) float64 x, y, width, height in pixels, as annotated, or else the mask's.
        segmentations: of all objects.
        rows: (N,) int64, where in `segmentations` each object's is.
        problems: What was found wrong.
    """

    picture_ids: NDArray[np.int64]
    files: tuple[str, ...]
    sizes: NDArray[np.int32]
    categories: tuple[tuple[int, str], ...]
    ids: NDArray[np.int64]
    pictures: NDArray[np.int32]
    starts: NDArray[np.int64]
    labels: NDArray[np.int32]
    crowds: NDArray[np.bool_]
    areas: NDArray[np.float64]
    boxes: NDArray[np.float64]
    segmentations: PackedSegmentations
    rows: NDArray[np.int64]
    problems: Problems

    def __len__(self) -> int:
        return len(self.ids)

    def describe(self, index: int) -> str:
        """Name an object for a message."""
        picture = int(self.pictures[index])
        return f"annotation {self.ids[index]} of picture {self.picture_ids[picture]}"

    def rle(self, index: int) -> dict[str, Any]:
        """COCO's compressed run-length code of an object's mask, of its picture's size."""
        height, width = self.sizes[self.pictures[index]].tolist()
        return self.segmentations.rle(int(self.rows[index]), height, width)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """(H, W) uint8, 1 on the object, of its picture's size."""
        return decode_rle(self.rle(index))

    @property
    def masked(self) -> NDArray[np.bool_]:
        """(N,) bool, which objects have a mask; of the others only the box is known."""
        return self.segmentations.masked[self.rows]

    def polygons(self, index: int) -> list[NDArray[np.float64]]:
        """Polygons of an object, (P, 2) x, y in pixels; none if it has a run-length code."""
        return self.segmentations.polygons(int(self.rows[index]))

    def of_pictures(self, indices: NDArray[np.int64]) -> Annotations:
        """Give the pictures with these indices, rising, and their objects."""
        places = np.full(len(self.files), -1, np.int32)
        places[indices] = np.arange(len(indices))
        rows = np.flatnonzero(places[self.pictures] >= 0)
        table = replace(
            self,
            picture_ids=self.picture_ids[indices],
            files=tuple(self.files[i] for i in indices.tolist()),
            sizes=self.sizes[indices],
            pictures=places[self.pictures],
        )
        return table.select(rows)

    def select(self, rows: NDArray[np.int64]) -> Annotations:
        """Give these objects, ordered by picture."""
        rows = rows[np.argsort(self.pictures[rows], kind="stable")]
        pictures = self.pictures[rows]
        return replace(
            self,
            ids=self.ids[rows],
            pictures=pictures,
            starts=np.searchsorted(pictures, np.arange(len(self.files) + 1)),
            labels=self.labels[rows],
            crowds=self.crowds[rows],
            areas=self.areas[rows],
            boxes=self.boxes[rows],
            rows=self.rows[rows],
        )
