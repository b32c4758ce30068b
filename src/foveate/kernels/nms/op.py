# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression, and gathering the boxes that it keeps."""

import numpy as np

from foveate.kernels.nms import cpu
from foveate.kernels.op import (
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    ceil_div,
    int32,
    require_at_most,
)

LARGEST_ORDER = 65536
"""Largest number of scores that are ordered together, since ranking compares every pair of them."""

_RANK, _MASK, _SCAN, _GATHER = 256, 64, 256, 128  # threads per block


def nms_launches(
    memory: Memory,
    boxes: DeviceArray,
    scores: DeviceArray,
    count: DeviceArray,
    keep: DeviceArray,
    keep_count: DeviceArray,
    *,
    iou: float,
) -> Launches:
    """Yield the four launches, or only the last one without boxes; see :func:`cpu.nms`."""
    yield from suppress(memory, boxes, scores, None, count, keep, keep_count, iou=iou)


def suppress(
    memory: Memory,
    boxes: DeviceArray,
    scores: DeviceArray,
    groups: DeviceArray | None,
    count: DeviceArray | None,
    keep: DeviceArray,
    keep_count: DeviceArray,
    *,
    iou: float,
) -> Launches:
    """Yield the launches of a suppression among boxes of the same group.

    Args:
        memory: Memory of the call.
        boxes: Boxes (N, 4) float32 xyxy.
        scores: Scores (N,) float32.
        groups: Groups (N,) int32, or None if all boxes are of one group.
        count: Number of boxes that exist, (1,) int32, or None if all do.
        keep: Indices (R,) int32 of the survivors, best first; -1 after the end.
        keep_count: Number of survivors, (1,) int32.
        iou: Largest intersection over union with a better box.
    """
    capacity = boxes.shape[0]
    require_at_most(LARGEST_ORDER, capacity, "boxes")
    words = ceil_div(capacity, 32)  # a bit per box
    # All sizes follow from the capacity, since the number of boxes is only on the device.
    keys, order = memory.empty((capacity,), np.uint32), memory.empty((capacity,), np.int32)
    masks = memory.empty((capacity, words), np.uint32)
    size, limit = np.int32(capacity), np.int32(keep.shape[0])
    if capacity:
        ranks = ceil_div(capacity, _RANK)
        args = (boxes, scores, count, keys, size)
        yield Launch("foveate_nms_keys", grid=ranks, block=_RANK, args=args)
        yield Launch("foveate_nms_order", grid=ranks, block=_RANK, args=(keys, order, size))
        yield Launch(
            "foveate_nms_masks",
            grid=(words, ceil_div(capacity, _MASK)),
            block=_MASK,
            args=(boxes, groups, order, masks, size, np.int32(words), np.float64(iou)),
        )
    yield Launch(
        "foveate_nms_scan",
        grid=1,
        block=_SCAN,
        shared_bytes=4 * words,
        args=(order, masks, keep, keep_count, size, limit),
    )


def gather_launches(
    memory: Memory,
    boxes: DeviceArray,
    keep: DeviceArray,
    gathered: DeviceArray,
    *,
    horizontal: float,
    vertical: float,
) -> Launches:
    """Yield the single launch; see :func:`cpu.gather_boxes`."""
    del memory
    count = keep.shape[0]
    if count:
        factors = (np.float32(horizontal), np.float32(vertical))
        yield Launch(
            "foveate_gather_boxes",
            grid=ceil_div(count, _GATHER),
            block=_GATHER,
            args=(boxes, keep, gathered, *int32(boxes.shape[0], count), *factors),
        )


NMS = Op(
    "nms", cpu=cpu.nms, outputs=("keep", "keep_count"), source="nms/nms.cuh", launches=nms_launches
)
GATHER_BOXES = Op(
    "gather_boxes",
    cpu=cpu.gather_boxes,
    outputs=("gathered",),
    source="nms/nms.cuh",
    launches=gather_launches,
)
