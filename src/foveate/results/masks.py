# SPDX-License-Identifier: Apache-2.0
"""Masks that exist as logits and places, and become pixels when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from foveate.results.rle import encode_runs
from foveate.results.window import Window
from foveate.results.window_mask import WindowMask

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from foveate.arrays import Array, BoolArray, Float32Array, Int64Array


def checked_index(index: object) -> int | slice | Array:
    """Return an index into a sequence of objects as an int, a slice, or a 1-D array.

    Args:
        index: An integer, a slice, or a list or 1-D array of integers or bools, of any library
            whose arrays NumPy reads.

    Raises:
        TypeError: It is something else.
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
    """A sequence of N masks of one image. Nothing of N x H x W exists unless asked for.

    ``masks[i]`` is (H, W) bool; a slice or an array of indices gives fewer masks;
    ``numpy.asarray(masks)`` is (N, H, W) bool.

    Args:
        logits: (M, S, S).
        geometry: (M, 4): x0, y0, width, height of each window in the image frame.
        rows: (N,): the window of each mask; several masks may have the same.
        threshold: A pixel is foreground if its resampled logit is larger.
        height: Rows of the image.
        width: Columns of the image.
    """

    def __init__(
        self,
        logits: Float32Array,
        geometry: Float32Array,
        rows: Int64Array,
        *,
        threshold: float,
        height: int,
        width: int,
    ) -> None:
        self._logits = logits
        self._geometry = geometry
        self._rows = rows
        self._threshold = threshold
        self._height, self._width = height, width

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
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
            return Masks(
                self._logits,
                self._geometry,
                self._rows[index],
                threshold=self._threshold,
                height=self._height,
                width=self._width,
            )
        full = np.zeros(self.shape[1:], bool)
        self._window_mask(index).paint(full)
        return full

    def __iter__(self) -> Iterator[BoolArray]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("masks are made when they are asked for, so they cannot be shared")
        stack: Array = np.zeros(self.shape, bool)
        for index in range(len(self)):
            self._window_mask(index).paint(stack[index])
        return stack if dtype is None else stack.astype(dtype)

    def windows(self) -> tuple[Float32Array, Float32Array]:
        """Return what the masks are made of: logits (N, S, S), and places (N, 4) as given above."""
        return self._logits[self._rows], self._geometry[self._rows]

    def crop(self, index: int) -> tuple[BoolArray, int, int]:
        """Return a mask inside its tight box, and the row and column of that in the image."""
        return self._window_mask(index).mask()

    def boxes(self) -> Float32Array:
        """Return the tight box of each mask without rasterising it: (N, 4) xyxy."""
        boxes = [self._window_mask(index).box() for index in range(len(self))]
        return np.array(boxes, np.float32).reshape(-1, 4)

    def areas(self) -> Int64Array:
        """Return the number of foreground pixels of each mask, without rasterising it: (N,)."""
        areas = [self._window_mask(index).area() for index in range(len(self))]
        return np.array(areas, np.int64)

    def rle(self) -> list[dict[str, Any]]:
        """Return each mask in COCO's compressed run-length code: ``size`` and ``counts``.

        No mask is rasterised.
        """
        size = (self._height, self._width)
        masks = (self._window_mask(index) for index in range(len(self)))
        return [encode_runs(mask.columns, mask.starts, mask.ends, *size) for mask in masks]

    def _window_mask(self, index: int) -> WindowMask:
        row = self._rows[index]
        return WindowMask(
            self._logits[row],
            Window.around(self._geometry[row].tolist()),
            threshold=self._threshold,
            image_height=self._height,
            image_width=self._width,
        )

    def __repr__(self) -> str:
        return f"Masks(shape={self.shape})"
