# SPDX-License-Identifier: Apache-2.0
"""Masks that are kept as logits and windows, and rasterized only on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike

from foveate.arrays import Array, BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
from foveate.results.outline import outline_runs
from foveate.results.window_mask import ColumnRuns, Window, WindowMask


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


class Masks:
    """A sequence of N masks of one image, without an array of N x H x W pixels.

    ``masks[i]`` is (H, W) bool; a slice or an array of indices selects masks;
    ``numpy.asarray(masks)`` is (N, H, W) bool.

    Args:
        logits: (M, S, S) float32 mask logits of the windows.
        windows: (M, 4) float32 x0, y0, width and height of each window, in pixels of the image.
        rows: (N,) int64 window of each mask; several masks may share a window.
        threshold: Logit above which a resampled pixel is foreground.
        height: Number of rows of the image.
        width: Number of columns of the image.
        regions: (M, 4) int64 xyxy part of the image in which each window was seen, outside of which
            its mask is background; the whole image if ``None``.
    """

    def __init__(
        self,
        logits: Float32Array,
        windows: Float32Array | Float64Array,
        rows: Int64Array,
        *,
        threshold: float,
        height: int,
        width: int,
        regions: Int64Array | None = None,
    ) -> None:
        self._logits = logits
        self._windows = windows
        self._rows = rows
        self._threshold = threshold
        self._height, self._width = height, width
        whole = np.array([0, 0, width, height], np.int64)
        self._regions = np.tile(whole, (len(windows), 1)) if regions is None else regions

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the stack of all masks: (N, H, W)."""
        return (len(self), self._height, self._width)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> BoolArray: ...

    @overload
    def __getitem__(self, index: slice | Array | Sequence[int]) -> Masks: ...

    def __getitem__(self, index: int | slice | Array | Sequence[int]) -> BoolArray | Masks:
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

    def windows(self) -> tuple[Float32Array, Float32Array]:
        """Return the logits, (N, S, S), and the windows, (N, 4), of the masks."""
        return self._logits[self._rows], self._windows[self._rows].astype(np.float32, copy=False)

    def regions(self) -> Int64Array:
        """Return the part of the image in which each mask was seen, (N, 4) int64 xyxy."""
        return self._regions[self._rows]

    def moved(self, left: int, top: int, *, height: int, width: int) -> Masks:
        """Return these masks in a larger image, in which their image begins at (left, top).

        Args:
            left: Column of the larger image.
            top: Row of the larger image.
            height: Number of rows of the larger image.
            width: Number of columns of the larger image.
        """
        return Masks(
            self._logits,
            # A sum of a float32 and an integer is exact in float64, so that no edge is rounded
            # otherwise than in the smaller image.
            self._windows + np.array([left, top, 0, 0], np.float64),
            self._rows,
            threshold=self._threshold,
            height=height,
            width=width,
            regions=self._regions + np.array([left, top, left, top]),
        )

    def joined(self, others: Sequence[Masks]) -> Masks:
        """Return these masks and then those of others, of the same image and threshold.

        Logits that no mask uses are left out.
        """
        logits, windows, regions, rows = zip(*(one.used() for one in (self, *others)), strict=True)
        firsts = np.cumsum([0, *map(len, logits[:-1])])
        return Masks(
            np.concatenate(logits),
            np.concatenate(windows),
            np.concatenate([part + first for part, first in zip(rows, firsts, strict=True)]),
            threshold=self._threshold,
            height=self._height,
            width=self._width,
            regions=np.concatenate(regions),
        )

    def used(self) -> tuple[Float32Array, Float64Array, Int64Array, Int64Array]:
        """Return logits (M, S, S), windows (M, 4) and regions (M, 4) in use, and each mask's row (N,)."""
        kept, rows = np.unique(self._rows, return_inverse=True)
        windows = self._windows[kept].astype(np.float64)
        return self._logits[kept], windows, self._regions[kept], rows.reshape(-1)

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

    def _select(self, index: slice | Array) -> Masks:
        return Masks(
            self._logits,
            self._windows,
            self._rows[index],
            threshold=self._threshold,
            height=self._height,
            width=self._width,
            regions=self._regions,
        )

    def _runs(self, index: int) -> ColumnRuns:
        row = self._rows[index]
        return WindowMask(
            self._logits[row],
            Window.around(self._windows[row].tolist()),
            threshold=self._threshold,
            region=self._regions[row].tolist(),
        )

    def __repr__(self) -> str:
        return f"Masks(shape={self.shape})"
