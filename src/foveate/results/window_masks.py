# SPDX-License-Identifier: Apache-2.0
"""Masks that are kept as logits and windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Array, Float32Array, Float64Array, Int64Array
from foveate.results.masks import Masks
from foveate.results.window_mask import ColumnRuns, Window, WindowMask


class WindowMasks(Masks):
    """Masks of windows, whose logits are resampled on request.

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
        super().__init__(height=height, width=width)
        self._logits = logits
        self._windows = windows
        self._rows = rows
        self._threshold = threshold
        whole = np.array([0, 0, width, height], np.int64)
        self._regions = np.tile(whole, (len(windows), 1)) if regions is None else regions

    def __len__(self) -> int:
        return len(self._rows)

    def windows(self) -> tuple[Float32Array, Float32Array]:
        """Return the logits, (N, S, S), and the windows, (N, 4), of the masks."""
        return self._logits[self._rows], self._windows[self._rows].astype(np.float32, copy=False)

    def regions(self) -> Int64Array:
        """Return the part of the image in which each mask was seen, (N, 4) int64 xyxy."""
        return self._regions[self._rows]

    def moved(self, left: int, top: int, *, height: int, width: int) -> WindowMasks:
        """Return these masks in a larger image, in which their image begins at (left, top).

        Args:
            left: Column of the larger image.
            top: Row of the larger image.
            height: Number of rows of the larger image.
            width: Number of columns of the larger image.
        """
        return WindowMasks(
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

    def joined(self, others: Sequence[WindowMasks]) -> WindowMasks:
        """Return these masks and then those of others, of the same image and threshold.

        Logits that no mask uses are left out.
        """
        logits, windows, regions, rows = zip(*(one.used() for one in (self, *others)), strict=True)
        firsts = np.cumsum([0, *map(len, logits[:-1])])
        return WindowMasks(
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

    def _select(self, index: slice | Array) -> WindowMasks:
        return WindowMasks(
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


def of_windows(masks: Masks) -> WindowMasks:
    """Return the masks of a pipeline as what they are.

    Raises:
        TypeError: They come from a file, which has no windows.
    """
    if not isinstance(masks, WindowMasks):
        raise TypeError(f"expected the masks of a pipeline, found {type(masks).__name__}")
    return masks
