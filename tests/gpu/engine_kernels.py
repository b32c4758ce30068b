# SPDX-License-Identifier: Apache-2.0
"""Calls of the kernels that engines run, which no operation of the pipeline launches.

They are operations of their own here: the host version is the reference, the plan is one launch.
Maps are channel-last, except those of upsampling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.kernels.upsampling import upsample_plan

from foveate.kernels.op import Op
from foveate.kernels.plans import DeviceArray, Scratch, Steps
from foveate.kernels.plugins.bilinear_upsample import reference as upsampling
from foveate.kernels.plugins.roi_max_pool.reference import ROUNDINGS, roi_max_pool

__all__ = ["ROI_MAX_POOL", "UPSAMPLE_MAP"]


def _pool_on_host(features: Any, rois: Any, pooled: Any, *, scale: float) -> None:
    planes = features.transpose(0, 3, 1, 2)
    found = roi_max_pool(planes, rois, pooled.shape[1:3], scale)
    pooled[:] = found.transpose(0, 2, 3, 1)


def _pool(
    scratch: Scratch, features: DeviceArray, rois: DeviceArray, pooled: DeviceArray, *, scale: float
) -> Steps:
    del scratch
    batch, height, width, channels = features.shape
    count, rows, columns, _ = pooled.shape
    yield (
        "roi_max_pool_f32x4",
        {
            "features": features,
            "rois": rois,
            "pooled": pooled,
            "batch": batch,
            "height": height,
            "width": width,
            "channels": channels,
            "roi_count": count,
            "rows": rows,
            "columns": columns,
            "scale": scale,
            "rounding": ROUNDINGS.index("caffe"),
        },
    )


def _upsample_on_host(maps: Any, second: Any, grown: Any) -> None:
    total = maps.astype(np.float64) + second
    grown[:] = upsampling.upsample(total, *grown.shape[2:], align_corners=False, relu=True)


def _upsample(
    scratch: Scratch, maps: DeviceArray, second: DeviceArray, grown: DeviceArray
) -> Steps:
    del scratch
    count, channels, height, width = maps.shape
    size = grown.shape[2:]
    band_rows, stage_rows = upsample_plan(height, width, size[0], size[1])
    yield (
        "upsample_map_f32x4",
        {
            "input": maps,
            "second": second,
            "output": grown,
            "planes": count * channels,
            "height": height,
            "width": width,
            "out_height": size[0],
            "out_width": size[1],
            "align_corners": 0,
            "relu": 1,
            "band_rows": band_rows,
            "stage_rows": stage_rows,
        },
    )


ROI_MAX_POOL = Op(
    name="roi_max_pool",
    host=_pool_on_host,
    outputs=("pooled",),
    kernels=("foveate_roi_max_pool",),
    plan=_pool,
)
UPSAMPLE_MAP = Op(
    name="upsample_map",
    host=_upsample_on_host,
    outputs=("grown",),
    kernels=("foveate_upsample_map",),
    plan=_upsample,
)
