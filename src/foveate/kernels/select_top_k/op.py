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
    int32,
    require_at_most,
)
from foveate.kernels.select_top_k import cpu

MOST_WINDOWS = 2048
"""Largest number of selected windows: each takes 20 bytes of shared memory, of which 48 KiB are
available to a kernel without opting in."""

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
) -> Launches:
    """Yield keys, order and selection, or only the last; see :func:`cpu.select_top_k`."""
    shapes = np.array([grid.shape[2:] for grid in grids], np.int32).reshape(-1, 2)
    starts = np.cumsum([0, *shapes.prod(axis=1)]).astype(np.int32)
    cells, limit = int(starts[-1]), indices.shape[0]
    require_at_most(LARGEST_ORDER, cells, "windows of all levels")
    require_at_most(MOST_WINDOWS, limit, "selected windows")
    # The number of levels varies, so the kernels take a table of addresses in place of one array.
    known = tuple(memory.upload(table) for table in (addresses(grids), shapes, starts))
    keys, order = memory.empty((cells,), np.uint32), memory.empty((cells,), np.int32)
    candidates = memory.empty((cells, 4), np.float32)
    levels = len(grids)
    if cells:
        scales = memory.upload(np.array(factors, np.float64))
        blocks = ceil_div(cells, _THREADS)
        numbers = int32(levels, cells, size, stride, padding)
        yield Launch(
            "foveate_select_cells",
            grid=blocks,
            block=_THREADS,
            args=(*known, scales, keys, candidates, *numbers),
        )
        yield Launch(
            "foveate_select_order", grid=blocks, block=_THREADS, args=(keys, order, np.int32(cells))
        )
    outputs = (indices, windows, scores, count)
    yield Launch(
        "foveate_select_scan",
        grid=1,
        block=_THREADS,
        shared_bytes=20 * limit,  # a box and a number per window
        args=(
            *known,
            order,
            candidates,
            *outputs,
            *int32(levels, cells, limit),
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
