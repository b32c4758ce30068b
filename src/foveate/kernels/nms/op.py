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

_RANK, _GATHER = 256, 128  # threads per block


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
    """Yield the single launch; see :func:`cpu.nms`."""
    capacity, limit = boxes.shape[0], keep.shape[0]
    require_at_most(LARGEST_ORDER, capacity, "boxes")
    # All sizes follow from the capacity, since the number of boxes is only on the device.
    order, chosen = memory.empty((capacity,), np.int32), memory.empty((limit, 4), np.float32)
    yield Launch(
        "foveate_nms",
        grid=1,
        block=_RANK,
        args=(
            *(boxes, scores, count, order, chosen, keep, keep_count),
            *int32(capacity, limit),
            np.float64(iou),
        ),
    )


def gather_launches(
    memory: Memory,
    boxes: DeviceArray,
    keep: DeviceArray,
    gathered: DeviceArray,
    *,
    horizontal: float,
    vertical: float,
    offset: float,
) -> Launches:
    """Yield the single launch; see :func:`cpu.gather_boxes`."""
    del memory
    count = keep.shape[0]
    if count:
        frame = (np.float32(horizontal), np.float32(vertical), np.float32(offset))
        yield Launch(
            "foveate_gather_boxes",
            grid=ceil_div(count, _GATHER),
            block=_GATHER,
            args=(boxes, keep, gathered, *int32(boxes.shape[0], count), *frame),
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
