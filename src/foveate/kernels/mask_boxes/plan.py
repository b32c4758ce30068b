# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from foveate.kernels.launch_shapes import paste_stage_rows
from foveate.kernels.plans import INT, DeviceArray, Scratch, Steps, element


def mask_boxes(
    scratch: Scratch,
    logits: DeviceArray,
    geometry: DeviceArray,
    count: DeviceArray,
    boxes: DeviceArray,
    *,
    threshold: float,
    image_height: int,
    image_width: int,
) -> Steps:
    """Yield the pasting, which writes no bits, and the reduction to boxes."""
    windows, size = logits.shape[:2]
    bands = -(-image_height // 64)
    partials = scratch.empty((windows, bands, 5), INT)
    if not windows:
        return
    yield (
        f"paste_windows_{element(logits)}",
        {
            "logits": logits,
            "geometry": geometry,
            "count": count,
            "columns": None,
            "bits": None,
            "partials": partials,
            "windows": windows,
            "size": size,
            "height": image_height,
            "width": image_width,
            "threshold": threshold,
            "square": 0,
            "stage_rows": paste_stage_rows(size),
        },
    )
    sizes = {"windows": windows, "bands": bands}
    yield "paste_boxes", {"partials": partials, "areas": None, "boxes": boxes, **sizes}
