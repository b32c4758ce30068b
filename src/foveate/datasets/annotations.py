# SPDX-License-Identifier: Apache-2.0
"""Images and objects of a data set, as columns; masks are decoded on request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from foveate.arrays import BoolArray, Float64Array, Int32Array, Int64Array, UInt8Array
from foveate.datasets.segmentations import PackedSegmentations, decode_rle

_EXAMPLES = 3


class Reason(StrEnum):
    """The reason why a record cannot be used; the value completes "left out, because ..."."""

    MALFORMED = "a field is missing or of another type"
    UNKNOWN_IMAGE = "its image is not listed"
    UNKNOWN_CATEGORY = "its category is not listed"
    REPEATED = "it is listed twice"
    BAD_MASK = "its segmentation is neither a polygon nor a run-length code of the image's size"
    NO_MASK = "it has a box and no mask"
    EMPTY_MASK = "its area is zero"
    OUTSIDE = "it lies outside its image"
    NO_IMAGE = "the image cannot be read at the annotated size"


class Problems:
    """Counts of invalid records, with the first few of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self._examples: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, record: str) -> None:
        """Count a record, described in words: "annotation 7 of image 3"."""
        self.counts[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES and record not in examples:
            examples.append(record)

    def __len__(self) -> int:
        return self.counts.total()

    def report(self) -> str:
        """Return a line with the number and the first few records for each reason."""
        parts = [
            f"{count} because {reason} ({', '.join(self._examples[reason])}"
            f"{', ...' if count > len(self._examples[reason]) else ''})"
            for reason, count in self.counts.most_common()
        ]
        return "; ".join(parts) or "nothing was found wrong"


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Images and objects of a data set as columns; P images, N objects, crowds among them.

    Args:
        image_ids: (P,) int64, in the order of the file.
        files: File names, relative to the directory of images.
        sizes: (P, 2) int32 height and width in pixels.
        categories: Id and name of each category, by id; gaps between ids do not matter.
        ids: (N,) int64. Objects are ordered by image, and within one as in the file.
        images: (N,) int32 index of each object's image.
        starts: (P + 1,) int64 index of each image's first object.
        labels: (N,) int32 index of each object's category.
        crowds: (N,) bool, whether one outline stands for many objects.
        areas: (N,) float64 in square pixels, as annotated.
        boxes: (N, 4) float64 x, y, width, height in pixels, as annotated, or those of the mask.
        segmentations: Segmentations of all objects.
        rows: (N,) int64 index of each object in ``segmentations``.
        problems: Invalid records.
    """

    image_ids: Int64Array
    files: tuple[str, ...]
    sizes: Int32Array
    categories: tuple[tuple[int, str], ...]
    ids: Int64Array
    images: Int32Array
    starts: Int64Array
    labels: Int32Array
    crowds: BoolArray
    areas: Float64Array
    boxes: Float64Array
    segmentations: PackedSegmentations
    rows: Int64Array
    problems: Problems

    def __len__(self) -> int:
        return len(self.ids)

    def describe(self, index: int) -> str:
        """Return the name of an object for a message."""
        image = int(self.images[index])
        return f"annotation {self.ids[index]} of image {self.image_ids[image]}"

    def rle(self, index: int) -> dict[str, Any]:
        """Return COCO's compressed code of an object's mask, of the size of its image."""
        height, width = self.sizes[self.images[index]].tolist()
        return self.segmentations.rle(int(self.rows[index]), height, width)

    def mask(self, index: int) -> UInt8Array:
        """Return (H, W) uint8, 1 on the object, of the size of its image."""
        return decode_rle(self.rle(index))

    @property
    def masked(self) -> BoolArray:
        """(N,) bool, whether each object has a mask; the others have only a box."""
        return self.segmentations.masked[self.rows]

    def polygons(self, index: int) -> list[Float64Array]:
        """Return the polygons of an object, (P, 2) x, y in pixels; none if it has a code."""
        return self.segmentations.polygons(int(self.rows[index]))

    def of_images(self, indices: Int64Array) -> Annotations:
        """Return the images with these ascending indices, and their objects."""
        places = np.full(len(self.files), -1, np.int32)
        places[indices] = np.arange(len(indices))
        rows = np.flatnonzero(places[self.images] >= 0)
        table = replace(
            self,
            image_ids=self.image_ids[indices],
            files=tuple(self.files[i] for i in indices.tolist()),
            sizes=self.sizes[indices],
            images=places[self.images],
        )
        return table.select(rows)

    def select(self, rows: Int64Array) -> Annotations:
        """Return these objects, ordered by image."""
        rows = rows[np.argsort(self.images[rows], kind="stable")]
        images = self.images[rows]
        return replace(
            self,
            ids=self.ids[rows],
            images=images,
            starts=np.searchsorted(images, np.arange(len(self.files) + 1)),
            labels=self.labels[rows],
            crowds=self.crowds[rows],
            areas=self.areas[rows],
            boxes=self.boxes[rows],
            rows=self.rows[rows],
        )
