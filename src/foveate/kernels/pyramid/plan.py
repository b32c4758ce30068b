# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.kernels.plans import (
    LONGEST_SIDE,
    DeviceArray,
    Scratch,
    Steps,
    addresses,
    check_length,
    element,
)


def resize(scratch: Scratch, image: DeviceArray, resized: DeviceArray) -> Steps:
    """Yield the one launch of resizing."""
    del scratch
    check_length("resize", max(*image.shape[:2], *resized.shape[:2]), LONGEST_SIDE)
    yield (
        "pyramid_resize",
        {
            "image": image,
            "resized": resized,
            "image_height": image.shape[0],
            "image_width": image.shape[1],
            "height": resized.shape[0],
            "width": resized.shape[1],
            "resampling": 0,
        },
    )


def place(
    scratch: Scratch,
    image: DeviceArray,
    canvas: DeviceArray,
    *,
    height: int,
    width: int,
    border: int,
    mean: Sequence[float],
    std: Sequence[float],
    fill: int,
) -> Steps:
    """Yield the one launch that places an image on its canvas."""
    canvas_height, canvas_width = canvas.shape[2:]
    check_length("place", max(*image.shape[:2], canvas_height, canvas_width), LONGEST_SIDE)
    blocks = -(-canvas_height // 64) * -(-canvas_width // 64)
    plan = [canvas_height, canvas_width, height, width, border, 0]
    table = (np.arange(256) - np.array(mean)[:, None]) / np.array(std)[:, None]
    yield (
        f"pyramid_place_{element(canvas)}",
        {
            "image": image,
            "canvases": scratch.upload(addresses([canvas])),
            "plan": scratch.upload(np.array(plan, np.int32)),
            "table": scratch.upload(table.astype(np.float32)),
            "image_height": image.shape[0],
            "image_width": image.shape[1],
            "levels": 1,
            "blocks": blocks,
            "resampling": 0,
            "to_bytes": 1,
            "fill": fill,
        },
    )
