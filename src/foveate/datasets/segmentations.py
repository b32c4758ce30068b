# SPDX-License-Identifier: Apache-2.0
"""Segmentations of a whole data set, packed into a few arrays."""

from array import array
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
from pycocotools import mask as coco_mask

from foveate.arrays import BoolArray, Float64Array, Int64Array, UInt8Array

# Largest coordinate, in pixels. The memory to draw a polygon grows with its length.
_FARTHEST = 1e5


# Packed, since COCO's training set has 860,000 objects with some 50 coordinates each. As lists of
# Python floats they take several gigabytes, and a worker process that only reads them copies every
# page, because reading changes reference counts. Arrays are shared.
@dataclass(frozen=True, kw_only=True)
class PackedSegmentations:
    """N segmentations: each is Q polygons, a compressed run-length code, or nothing.

    Args:
        coordinates: (C,) float64 x and y in turn, in pixels of the image.
        polygon_starts: (Q + 1,) int64 index of each polygon's start in ``coordinates``.
        object_starts: (N + 1,) int64 index of each object's first polygon; none for a code.
        codes: (B,) uint8, COCO's compressed codes one after the other.
        code_starts: (N + 1,) int64 index of each object's code; of length 0 for polygons.
    """

    coordinates: Float64Array
    polygon_starts: Int64Array
    object_starts: Int64Array
    codes: UInt8Array
    code_starts: Int64Array

    def polygons(self, index: int) -> list[Float64Array]:
        """Return the polygons of an object, (P, 2) x, y in pixels; none if it has a code."""
        first, last = self.object_starts[index : index + 2].tolist()
        bounds = self.polygon_starts[first : last + 1].tolist()
        return [self.coordinates[start:end].reshape(-1, 2) for start, end in pairwise(bounds)]

    def rle(self, index: int, height: int, width: int) -> dict[str, Any]:
        """Return COCO's compressed code of an object's mask, of the size that it was added with."""
        polygons = self.polygons(index)
        if polygons:
            return rasterize(polygons, height, width)
        start, end = self.code_starts[index : index + 2].tolist()
        return {"size": [height, width], "counts": self.codes[start:end].tobytes()}

    @property
    def masked(self) -> BoolArray:
        """(N,) bool, whether each object has a mask: a code, or a polygon."""
        return (np.diff(self.object_starts) > 0) | (np.diff(self.code_starts) > 0)

    def areas(self) -> Float64Array:
        """Compute (N,) areas in square pixels: 0 only if no polygon has one or no run is set."""
        x, y = self.coordinates[0::2], self.coordinates[1::2]
        starts = self.polygon_starts // 2
        twice = np.zeros(len(starts) - 1)
        if len(twice):
            # The corner after the last one of each polygon is its first.
            following = np.arange(1, len(x) + 1)
            following[starts[1:] - 1] = starts[:-1]
            cross = x * y[following] - x[following] * y
            twice = np.abs(np.add.reduceat(cross, starts[:-1]))
        areas = _reduce(np.add, twice / 2, self.object_starts)
        for index in np.flatnonzero(np.diff(self.code_starts)).tolist():
            start, end = self.code_starts[index : index + 2].tolist()
            code = {"size": [1, 1], "counts": self.codes[start:end].tobytes()}
            areas[index] = float(coco_mask.area(code))
        return areas

    def extents(self) -> Float64Array:
        """Compute (N, 4) x1, y1, x2, y2 of the polygons; 0 for codes, which stay in the image."""
        corners = []
        for function, axis in ((np.minimum, 0), (np.minimum, 1), (np.maximum, 0), (np.maximum, 1)):
            values = _reduce(function, self.coordinates[axis::2], self.polygon_starts // 2)
            corners.append(_reduce(function, values, self.object_starts))
        return np.stack(corners, axis=1)


class SegmentationPacker:
    """Packer of segmentations, one by one, in their JSON form."""

    def __init__(self) -> None:
        self._coordinates = array("d")
        self._polygon_starts = array("q", [0])
        self._object_starts = array("q", [0])
        self._codes = bytearray()
        self._code_starts = array("q", [0])

    def add(self, segmentation: Any, height: int, width: int) -> None:
        """Add a segmentation in an image of the given size.

        It is a list of polygons [x1, y1, x2, y2, ...], or an object with "size" and "counts", a
        list of run lengths or a compressed code; None for an object without a mask.

        Raises:
            ValueError: It is none of these, or of another size. Nothing was added.
        """
        if isinstance(segmentation, list):
            self._add_polygons(segmentation)
        elif isinstance(segmentation, dict):
            self._codes += _code(segmentation, height, width)
        elif segmentation is not None:
            raise ValueError(f"it is of type {type(segmentation).__name__}")
        self._object_starts.append(len(self._polygon_starts) - 1)
        self._code_starts.append(len(self._codes))

    def _add_polygons(self, polygons: list[Any]) -> None:
        flat = array("d")
        ends = []
        for polygon in polygons:
            if not isinstance(polygon, list) or len(polygon) % 2:
                raise ValueError("a polygon is not a list of pairs")
            if len(polygon) < 6:
                continue  # one or two points enclose nothing
            try:
                flat.extend(polygon)
            except (TypeError, OverflowError) as error:
                raise ValueError("a coordinate is not a number") from error
            ends.append(len(self._coordinates) + len(flat))
        if not ends:
            raise ValueError("no polygon has three points")
        if not (np.abs(np.frombuffer(flat)) <= _FARTHEST).all():
            raise ValueError(f"a coordinate is not within {_FARTHEST:.0f} pixels")
        self._coordinates.extend(flat)
        self._polygon_starts.extend(ends)

    def pack(self) -> PackedSegmentations:
        """Return everything that was added."""
        return PackedSegmentations(
            coordinates=np.array(self._coordinates, np.float64),
            polygon_starts=np.array(self._polygon_starts, np.int64),
            object_starts=np.array(self._object_starts, np.int64),
            codes=np.frombuffer(bytes(self._codes), np.uint8),
            code_starts=np.array(self._code_starts, np.int64),
        )


def rasterize(polygons: list[Float64Array], height: int, width: int) -> dict[str, Any]:
    """Return the joint run-length code of (P, 2) x, y polygons, by COCO's ``frPoly``."""
    flat = [polygon.ravel() for polygon in polygons]
    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    return merged


def encode_segmentation(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Return COCO's compressed code of one segmentation; see ``SegmentationPacker.add``.

    Raises:
        ValueError: The segmentation is invalid, or of another size.
    """
    packer = SegmentationPacker()
    packer.add([] if segmentation is None else segmentation, height, width)
    return packer.pack().rle(0, height, width)


def decode_rle(rle: dict[str, Any]) -> UInt8Array:
    """Decode a checked run-length code to (H, W) uint8, 1 on the object."""
    mask: UInt8Array = coco_mask.decode(rle)
    return mask


def check_code(code: bytes, pixels: int) -> None:
    """Check that a compressed run-length code covers exactly the given number of pixels.

    Raises:
        ValueError: It is damaged, or covers another number.
    """
    # pycocotools does not: with a code that is too short, it leaves the rest of the mask undefined,
    # and with a truncated one, it reads and writes beyond the end of its buffers.
    symbols = np.frombuffer(code, np.uint8).astype(np.int64) - 48
    if not len(symbols) or symbols.min() < 0 or symbols.max() > 63 or symbols[-1] & 32:
        raise ValueError("the run-length code is damaged")
    # Numbers in base 32, lowest digit first; bit 32 means that more digits follow, and bit 16 of
    # the last one that the number is negative.
    ends = np.flatnonzero(symbols < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    places = np.arange(len(symbols)) - np.repeat(starts, digits)
    if places.max() > 6:
        raise ValueError("the run-length code is damaged")
    runs = np.add.reduceat((symbols & 31) << 5 * places, starts)
    runs -= np.where(symbols[ends] & 16, 1 << 5 * digits, 0)
    # From the fourth number on, each is the difference from the one two places before it.
    for parity in (1, 2):
        runs[parity::2] = np.cumsum(runs[parity::2])
    if runs.min() < 0:
        raise ValueError("the run-length code is damaged")
    covered = runs.sum(dtype=np.float64)  # integers would wrap around
    if covered != pixels:
        raise ValueError(f"the run-length code covers {covered:.0f} pixels, not {pixels}")


def _code(segmentation: dict[str, Any], height: int, width: int) -> bytes:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or size != [height, width]:
        raise ValueError(f"its size is {size}, the image's [{height}, {width}]")
    if isinstance(counts, (str, bytes)):
        code = counts.encode("ascii") if isinstance(counts, str) else counts
        check_code(code, height * width)
        return code
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        raise ValueError("its counts are neither a code nor run lengths")
    if sum(counts) != height * width:
        raise ValueError(f"its runs cover {sum(counts)} pixels, not {height * width}")
    packed = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return cast("bytes", packed["counts"])


def _reduce(function: np.ufunc, values: Float64Array, starts: Int64Array) -> Float64Array:
    """Reduce each run of values; 0 for an empty run."""
    result = np.zeros(len(starts) - 1)
    filled = np.diff(starts) > 0
    if filled.any():
        result[filled] = function.reduceat(values, starts[:-1][filled])
    return result
