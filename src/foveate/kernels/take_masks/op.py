# SPDX-License-Identifier: Apache-2.0
"""Copying the masks of detections, and no others, to memory of the CPU."""

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
from foveate.kernels.take_masks import cpu

_MOST_WINDOWS = 65535  # blocks along y
_THREADS, _CHUNKS = 256, 4  # threads per block, and chunks per thread


def launches(
    memory: Memory,
    logits: DeviceArray,
    rows: DeviceArray | None,
    found: DeviceArray,
    taken: DeviceArray,
) -> Launches:
    """Yield the single launch; see :func:`cpu.take_masks`."""
    del memory
    assert logits.dtype == taken.dtype, f"masks of {logits.dtype} are not {taken.dtype}"
    count, size = logits.shape[:2]
    require_at_most(_MOST_WINDOWS, count, "windows")
    mask = size * size * logits.dtype.itemsize
    if not count or not mask:
        return
    # A mask is copied 16 bytes at a time if every mask begins at a multiple of 16 bytes.
    is_wide = (mask | logits.address | taken.address) % 16 == 0
    chunk = 16 if is_wide else 2
    listed = count if rows is None else rows.shape[0]
    yield Launch(
        f"foveate_take_masks_x{chunk}",
        grid=(ceil_div(mask // chunk, _THREADS * _CHUNKS), count),
        block=_THREADS,
        args=(logits, rows, found, taken, *int32(listed, mask // chunk)),
    )


TAKE_MASKS = Op(
    "take_masks",
    cpu=cpu.take_masks,
    outputs=("taken",),
    source="take_masks/take_masks.cuh",
    launches=launches,
)
