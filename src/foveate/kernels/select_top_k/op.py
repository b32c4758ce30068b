# SPDX-License-Identifier: Apache-2.0
"""Choosing the best windows over all levels."""

from collections.abc import Sequence

import numpy as np

from foveate.kernels.nms.op import LARGEST_ORDER
from foveate.kernels.op import (
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    addresses,
    ceil_div,
    element,
    int32,
    require_at_most,
)
from foveate.kernels.select_top_k import cpu

_THREADS = 256


def launches(
    memory: Memory,
    grids: Sequence[DeviceArray],
    indices: DeviceArray,
    windows: DeviceArray,
    scores: DeviceArray,
    count: DeviceArray,
    *,
    factors: Sequence[tuple[float, float]],
    size: int,
    stride: int,
    padding: int,
    window_nms_iou: float,
    top_k: int,
) -> Launches:
    """Yield order and selection, or only the latter without cells; see :func:`cpu.select_top_k`."""
    shapes = np.array([grid.shape[2:] for grid in grids], np.int32).reshape(-1, 2)
    starts = np.cumsum([0, *shapes.prod(axis=1)]).astype(np.int32)
    cells = int(starts[-1])
    require_at_most(LARGEST_ORDER, cells, "windows of all levels")
    kind = element(grids[0]) if grids else "f32"
    # The number of levels varies, so the kernels take a table of addresses in place of one array.
    known = tuple(memory.upload(table) for table in (addresses(grids), shapes, starts))
    scales = memory.upload(np.array(factors, np.float64))
    order = memory.empty((cells,), np.int32)
    winners, boxes = memory.empty((top_k,), np.int32), memory.empty((top_k, 4), np.float32)
    levels = len(grids)
    if cells:
        yield Launch(
            f"foveate_select_order_{kind}",
            grid=ceil_div(cells, _THREADS),
            block=_THREADS,
            args=(*known, order, *int32(levels, cells)),
        )
    yield Launch(
        f"foveate_select_scan_{kind}",
        grid=1,
        block=_THREADS,
        args=(
            *(*known, scales, order, winners, boxes, indices, windows, scores, count),
            *int32(levels, cells, top_k, indices.shape[0], size, stride, padding),
            np.float64(window_nms_iou),
        ),
    )


SELECT_TOP_K = Op(
    "select_top_k",
    cpu=cpu.select_top_k,
    outputs=("indices", "windows", "scores", "count"),
    source="select_top_k/select_top_k.cuh",
    launches=launches,
)
