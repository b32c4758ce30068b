# SPDX-License-Identifier: Apache-2.0
"""A sequence of masks that are rasterized only on request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import DTypeLike

from foveate.arrays import Array, BoolArray, Float32Array, Int32Array, Int64Array
from foveate.results.outline import outline_runs
from foveate.results.window_mask import ColumnRuns


def checked_index(index: object) -> int | slice | Array:
    """Return an index into a sequence of objects as an int, a slice, or a 1-D array.

    It may be a list or array, of integers or bools, of any library whose arrays NumPy can read.

    Raises:
        TypeError: The index is something else.
    """
    if isinstance(index, slice):
        return index
    if not isinstance(index, (tuple, str)) and index is not None:
        array = np.asarray(index)
        if array.ndim == 0 and array.dtype.kind in "iu":
            return int(array)
        if array.ndim == 1 and (array.dtype.kind in "iub" or not array.size):
            return array if array.size else array.astype(np.int64)
    raise TypeError(
        "expected an integer, a slice, or a 1-D array of integers or bools as index, "
        f"found {index!r:.60}"
    )


class Masks(ABC):
    """A sequence of N masks of one image, without an array of N x H x W pixels.

    ``masks[i]`` is (H, W) bool; a slice or an array of indices selects masks;
    ``numpy.asarray(masks)`` is (N, H, W) bool.

    Args:
        height: Number of rows of the image.
        width: Number of columns of the image.
    """

    def __init__(self, *, height: int, width: int) -> None:
        self._height, self._width = height, width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the stack of all masks: (N, H, W)."""
        return (len(self), self._height, self._width)

    @abstractmethod
    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, index: int) -> BoolArray: ...

    @overload
    def __getitem__(self, index: slice | Array | Sequence[int]) -> Self: ...

    def __getitem__(self, index: int | slice | Array | Sequence[int]) -> BoolArray | Self:
        index = checked_index(index)
        if not isinstance(index, int):
            return self._select(index)
        full = np.zeros(self.shape[1:], bool)
        self._runs(index).paint(full)
        return full

    def __iter__(self) -> Iterator[BoolArray]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            what = "masks are rasterized on request, so their memory cannot be shared"
            raise ValueError(what)
        stack: Array = np.zeros(self.shape, bool)
        for index in range(len(self)):
            self._runs(index).paint(stack[index])
        return stack if dtype is None else stack.astype(dtype)

    def crop(self, index: int) -> tuple[BoolArray, int, int]:
        """Return a mask inside its tight box, and the row and column of the box in the image."""
        return self._runs(index).mask()

    def crop_runs(self, index: int) -> tuple[Int32Array, tuple[int, int, int, int]]:
        """Return a mask as run lengths inside its tight box; see :meth:`ColumnRuns.crop_runs`."""
        return self._runs(index).crop_runs()

    def boxes(self) -> Float32Array:
        """Return the tight box of each mask, (N, 4) float32 xyxy, without rasterizing it."""
        boxes = [self._runs(index).box() for index in range(len(self))]
        return np.array(boxes, np.float32).reshape(-1, 4)

    def areas(self) -> Int64Array:
        """Return the number of foreground pixels of each mask, (N,), without rasterizing it."""
        areas = [self._runs(index).area() for index in range(len(self))]
        return np.array(areas, np.int64)

    def outline(self, index: int) -> list[Int64Array]:
        """Return the outline of a mask as polygons, without rasterizing it.

        Returns:
            Closed polygons, (V, 2) int64 each: x, y of corners of pixels, in pixels of the image. A
            point is in the mask if it is inside of an odd number of polygons: holes are polygons
            of their own.
        """
        mask = self._runs(index)
        return outline_runs(mask.columns, mask.starts, mask.ends)

    def rle(self) -> list[dict[str, Any]]:
        """Return each mask as COCO's compressed run-length code, without rasterizing it."""
        return [self._runs(i).rle(self._height, self._width) for i in range(len(self))]

    @abstractmethod
    def _select(self, index: slice | Array) -> Self:
        """Return the masks that a slice or a 1-D array selects."""

    @abstractmethod
    def _runs(self, index: int) -> ColumnRuns:
        """Return a mask as runs."""

    def __repr__(self) -> str:
        return f"Masks(shape={self.shape})"
