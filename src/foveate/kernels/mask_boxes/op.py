# SPDX-License-Identifier: Apache-2.0
"""Boxes of masks: the logits of each window are resampled, compared with a threshold and enclosed."""

import numpy as np

from foveate.kernels.mask_boxes import cpu
from foveate.kernels.op import (
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    ceil_div,
    element,
    int32,
    require_at_most,
)

WIDEST_STAGED = 352
"""Largest width of logits that a block keeps in shared memory; wider ones are read directly."""

_MOST_WINDOWS = 65535  # blocks along y
_BAND, _STAGED_ROWS, _PARTIALS = 64, 34, 5  # rows per block; rows of logits; numbers per block
_PASTE_THREADS, _BOX_THREADS = 256, 128


def launches(
    memory: Memory,
    logits: DeviceArray,
    windows: DeviceArray,
    count: DeviceArray,
    boxes: DeviceArray,
    *,
    threshold: float,
    image_height: int,
    image_width: int,
) -> Launches:
    """Yield pasting, which writes no bits, and reduction to boxes; see :func:`cpu.mask_boxes`."""
    total, size = logits.shape[:2]
    require_at_most(_MOST_WINDOWS, total, "windows")
    if not total:
        return
    bands = ceil_div(image_height, _BAND)
    partials = memory.empty((total, bands, _PARTIALS), np.int32)
    staged = _STAGED_ROWS if size <= WIDEST_STAGED else 0
    # The pipeline needs only boxes; bits, areas and a width on the device are for the plugin.
    columns = bits = areas = None
    yield Launch(
        f"foveate_paste_windows_{element(logits)}",
        grid=(bands, total),
        block=_PASTE_THREADS,
        shared_bytes=4 * size * staged,
        args=(
            *(logits, windows, count, columns, bits, partials),
            *int32(total, size, image_height, image_width),
            *(np.float32(threshold), np.int32(staged)),
        ),
    )
    yield Launch(
        "foveate_paste_boxes",
        grid=ceil_div(total, _BOX_THREADS),
        block=_BOX_THREADS,
        args=(partials, areas, boxes, *int32(total, bands)),
    )


MASK_BOXES = Op(
    "mask_boxes",
    cpu=cpu.mask_boxes,
    outputs=("boxes",),
    source="mask_boxes/mask_boxes.cuh",
    launches=launches,
)
