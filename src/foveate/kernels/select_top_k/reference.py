# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version."""

from collections.abc import Sequence

from foveate.arrays import Float32Array
from foveate.kernels.nms.reference import covers


def select_top_k(
    grids: Sequence[Float32Array],
    k: int,
    *,
    factors: Sequence[tuple[float, float]],
    size: int,
    stride: int,
    padding: int,
    window_nms_iou: float,
) -> list[tuple[float, tuple[int, int, int], tuple[float, float, float, float]]]:
    """Return (score, (level, row, column), (x0, y0, width, height)) of the windows, best first."""
    windows = []
    for level, grid in enumerate(grids):
        horizontal, vertical = factors[level]
        for row in range(grid.shape[2]):
            for column in range(grid.shape[3]):
                x0 = (column * stride - padding) * horizontal
                y0 = (row * stride - padding) * vertical
                window = (x0, y0, size * horizontal, size * vertical)
                windows.append((float(grid[0, 0, row, column]), (level, row, column), window))
    windows.sort(key=lambda item: (-item[0], item[1]))
    keep: list[tuple[float, tuple[int, int, int], tuple[float, float, float, float]]] = []
    for item in windows:
        box = _corners(item[2])
        if len(keep) < k and not any(covers(_corners(w[2]), box, window_nms_iou) for w in keep):
            keep.append(item)
    return keep


def _corners(window: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x0, y0, width, height = window
    return (x0, y0, x0 + width, y0 + height)
