# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from foveate.kernels.plans import DeviceArray, Scratch, Steps


def take_boxes(
    scratch: Scratch,
    boxes: DeviceArray,
    kept: DeviceArray,
    taken: DeviceArray,
    *,
    horizontal: float,
    vertical: float,
) -> Steps:
    """Yield the one launch of the gathering of boxes."""
    del scratch
    sizes = {"capacity": boxes.shape[0], "count": kept.shape[0]}
    factors = {"horizontal": horizontal, "vertical": vertical}
    if kept.shape[0]:
        yield "take_boxes", {"boxes": boxes, "kept": kept, "taken": taken, **sizes, **factors}
