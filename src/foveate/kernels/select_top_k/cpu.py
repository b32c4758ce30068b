# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory: one stable sort, then greedy suppression."""

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Array, Float32Array, Int32Array
from foveate.kernels.nms.cpu import suppress


def select_top_k(
    grids: Sequence[Float32Array],
    indices: Int32Array,
    windows: Float32Array,
    scores: Float32Array,
    count: Int32Array,
    *,
    factors: Sequence[tuple[float, float]],
    size: int,
    stride: int,
    padding: int,
    window_nms_iou: float,
    top_k: int,
) -> None:
    """Keep the windows with the best scores, dropping those that a better one nearly covers.

    The arrays have room for K windows, which may be more than are kept.

    Equal scores are taken in the order of level, row and column.

    Args:
        grids: Objectness logits, one (1, 1, Gh, Gw) per level, float32 or all of them float16.
        indices: Level, row and column of each window, (K, 3), best first; -1, 0, 0 after the end.
        windows: Windows (K, 4) as x0, y0, width, height in the image frame; zeros after the end.
        scores: Logits (K,); -inf after the end.
        count: Number of windows that were kept, (1,).
        factors: Image pixels per level pixel, (horizontal, vertical) per level.
        size: Side of a window in level pixels.
        stride: Level pixels from one cell to the next.
        padding: Border of the level's canvas in pixels.
        window_nms_iou: Largest intersection over union with a better window; 1 keeps all.
        top_k: Largest number of windows to keep, at most K.
    """
    cells = np.concatenate([_cells(level, grid) for level, grid in enumerate(grids)])
    values = np.concatenate([grid.ravel() for grid in grids]).astype(np.float32)
    candidates = windows_of(cells, factors, size, stride, padding)
    corners = np.concatenate([candidates[:, :2], candidates[:, :2] + candidates[:, 2:]], axis=1)
    best = suppress(corners, values, None, window_nms_iou, top_k)
    found = len(best)
    indices[:found], indices[found:] = cells[best], (-1, 0, 0)
    windows[:found], windows[found:] = candidates[best], 0
    scores[:found], scores[found:] = values[best], -np.inf
    count[0] = found


def windows_of(
    cells: Int32Array, factors: Sequence[tuple[float, float]], size: int, stride: int, padding: int
) -> Float32Array:
    """Return the windows (N, 4) of cells (N, 3); see :func:`select_top_k`."""
    # In float64, rounded once at the end, as in the kernels, so that windows agree in every bit.
    factor = np.array(factors, np.float64)[cells[:, 0]]
    windows = np.empty((len(cells), 4), np.float64)
    windows[:, 0] = (cells[:, 2] * stride - padding) * factor[:, 0]
    windows[:, 1] = (cells[:, 1] * stride - padding) * factor[:, 1]
    windows[:, 2:] = size * factor
    return windows.astype(np.float32)


def _cells(level: int, grid: Array) -> Int32Array:
    rows, columns = grid.shape[2:]
    cells = np.empty((rows, columns, 3), np.int32)
    cells[..., 0] = level
    cells[..., 1] = np.arange(rows)[:, None]
    cells[..., 2] = np.arange(columns)
    return cells.reshape(-1, 3)
