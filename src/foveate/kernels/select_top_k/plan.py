# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.kernels.plans import (
    FLOAT,
    INT,
    MOST_CELLS,
    MOST_WINDOWS,
    UINT,
    DeviceArray,
    Scratch,
    Steps,
    addresses,
    check_length,
)


def select_top_k(
    scratch: Scratch,
    grids: Sequence[DeviceArray],
    picks: DeviceArray,
    geometry: DeviceArray,
    scores: DeviceArray,
    count: DeviceArray,
    *,
    factors: Sequence[tuple[float, float]],
    size: int,
    stride: int,
    padding: int,
    window_nms_iou: float,
) -> Steps:
    """Yield the three launches of the selection; without cells the last alone."""
    shapes = np.array([grid.shape[2:] for grid in grids], np.int32).reshape(-1, 2)
    starts = np.cumsum([0, *shapes.prod(axis=1)]).astype(np.int32)
    cells, limit = int(starts[-1]), picks.shape[0]
    check_length("select_top_k", cells, MOST_CELLS)
    check_length("select_top_k", limit, MOST_WINDOWS)
    known = {
        "grids": scratch.upload(addresses(grids)),
        "shapes": scratch.upload(shapes),
        "starts": scratch.upload(starts),
    }
    keys, order = scratch.empty((cells,), UINT), scratch.empty((cells,), INT)
    windows = scratch.empty((cells, 4), FLOAT)
    sizes = {"levels": len(grids), "cells": cells}
    if cells:
        yield (
            "select_cells",
            {
                **known,
                "factors": scratch.upload(np.array(factors, np.float64)),
                "keys": keys,
                "windows": windows,
                **sizes,
                "size": size,
                "stride": stride,
                "padding": padding,
            },
        )
        yield "select_order", {"keys": keys, "order": order, "cells": cells}
    yield (
        "select_scan",
        {
            **known,
            "order": order,
            "windows": windows,
            "picks": picks,
            "geometry": geometry,
            "scores": scores,
            "count": count,
            **sizes,
            "limit": limit,
            "iou": window_nms_iou,
        },
    )
