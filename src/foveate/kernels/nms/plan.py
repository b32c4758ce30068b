# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from foveate.kernels.plans import INT, MOST_CELLS, UINT, DeviceArray, Scratch, Steps, check_length


def nms(
    scratch: Scratch,
    boxes: DeviceArray,
    scores: DeviceArray,
    count: DeviceArray,
    kept: DeviceArray,
    kept_count: DeviceArray,
    *,
    iou: float,
) -> Steps:
    """Yield the four launches of the suppression; without boxes the last alone."""
    yield from suppress(scratch, boxes, scores, None, count, kept, kept_count, iou=iou)


def suppress(
    scratch: Scratch,
    boxes: DeviceArray,
    scores: DeviceArray,
    groups: DeviceArray | None,
    count: DeviceArray | None,
    kept: DeviceArray,
    kept_count: DeviceArray,
    *,
    iou: float,
) -> Steps:
    """Yield the same for boxes of groups, which do not meet; without a count all boxes exist."""
    capacity = boxes.shape[0]
    check_length("nms", capacity, MOST_CELLS)
    words = -(-capacity // 32)
    keys, order = scratch.empty((capacity,), UINT), scratch.empty((capacity,), INT)
    masks = scratch.empty((capacity, words), UINT)
    sizes = {"capacity": capacity}
    if capacity:
        asked = {"boxes": boxes, "scores": scores, "count": count}
        yield "nms_keys", {**asked, "keys": keys, **sizes}
        yield "nms_order", {"keys": keys, "order": order, **sizes}
        pairs = {"boxes": boxes, "groups": groups, "order": order, "masks": masks}
        yield "nms_masks", {**pairs, **sizes, "words": words, "iou": iou}
    found = {"order": order, "masks": masks, "kept": kept, "kept_count": kept_count}
    yield "nms_scan", {**found, **sizes, "limit": kept.shape[0]}
