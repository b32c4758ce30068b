# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory: one stable sort, then greedy suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Array, Float32Array, Int32Array
from foveate.kernels.nms.host import suppress


def select_top_k(
    grids: Sequence[Float32Array],
    picks: Int32Array,
    geometry: Float32Array,
    scores: Float32Array,
    count: Int32Array,
    *,
    factors: Sequence[tuple[float, float]],
    size: int,
    stride: int,
    padding: int,
    window_nms_iou: float,
) -> None:
    """Keep the K windows with the best scores, dropping those that a better one nearly equals.

    Equal scores are taken in the order of level, row and column.

    Args:
        grids: Objectness logits, one (1, 1, Gh, Gw) a level.
        picks: (K, 3): level, row and column of each window, best first; -1, 0, 0 after the end.
        geometry: (K, 4): x0, y0, width, height in the image frame; zeros after the end.
        scores: (K,) logits; -inf after the end.
        count: (1,): how many there are.
        factors: Image pixels a level pixel, (horizontal, vertical) a level.
        size: Side of the window in level pixels.
        stride: Level pixels from one cell to the next.
        padding: Border of the level's canvas in pixels.
        window_nms_iou: Largest intersection over union with a better window; 1 keeps all.
    """
    cells = np.concatenate([_cells(level, grid) for level, grid in enumerate(grids)])
    values = np.concatenate([grid.ravel() for grid in grids])
    windows = window_geometry(cells, factors, size, stride, padding)
    corners = np.concatenate([windows[:, :2], windows[:, :2] + windows[:, 2:]], axis=1)
    best = suppress(corners, values, None, window_nms_iou, len(picks))
    found = len(best)
    picks[:found], picks[found:] = cells[best], (-1, 0, 0)
    geometry[:found], geometry[found:] = windows[best], 0
    scores[:found], scores[found:] = values[best], -np.inf
    count[0] = found


def window_geometry(
    cells: Int32Array, factors: Sequence[tuple[float, float]], size: int, stride: int, padding: int
) -> Float32Array:
    """Return (N, 4) x0, y0, width, height in the image frame of (N, 3) level, row, column."""
    factor = np.array(factors, np.float64)[cells[:, 0]]
    geometry = np.empty((len(cells), 4), np.float64)
    geometry[:, 0] = (cells[:, 2] * stride - padding) * factor[:, 0]
    geometry[:, 1] = (cells[:, 1] * stride - padding) * factor[:, 1]
    geometry[:, 2:] = size * factor
    return geometry.astype(np.float32)


def _cells(level: int, grid: Array) -> Int32Array:
    rows, columns = grid.shape[2:]
    cells = np.empty((rows, columns, 3), np.int32)
    cells[..., 0] = level
    cells[..., 1] = np.arange(rows)[:, None]
    cells[..., 2] = np.arange(columns)
    return cells.reshape(-1, 3)
