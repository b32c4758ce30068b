# SPDX-License-Identifier: Apache-2.0
"""Operations that launch the kernels of TensorRT's plugins as their launchers in C++ do.

The launchers ship, so every launch of theirs is compared with :func:`shape_of`; the interpreter and
the GPU run the kernels through these operations. Maps are channel-last, except for upsampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foveate.kernels.op import (
    Argument,
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    ceil_div,
    element,
    int32,
)
from foveate.kernels.plugins.bilinear_upsample import reference as upsampling
from foveate.kernels.plugins.roi_max_pool.reference import ROUNDINGS, roi_max_pool

Shape = tuple[tuple[int, int, int], int, int]
"""Grid, threads per block, bytes of dynamic shared memory."""


def shape_of(kernel: str, numbers: Sequence[int]) -> Shape:
    """Return the shape of a launch, given the integers among its arguments."""
    if kernel == "foveate_paste_boxes":
        return _row(ceil_div(numbers[0], 128))
    stem, _, suffix = kernel.removeprefix("foveate_").rpartition("_")
    lanes = int(suffix.partition("x")[2] or 1)
    if stem.startswith("roi_max_pool"):
        _, _, _, channels, count, rows, columns, _ = numbers
        return _row(count * ceil_div(rows * columns * (channels // lanes), 128))
    if stem == "square_table":
        batch, height, width, channels, _ = numbers
        return _row(ceil_div(batch * height * width * channels // lanes, 128))
    if stem == "paste_windows":
        windows, size, height, _, rows = numbers
        return (ceil_div(height, 64), windows, 1), 256, 4 * size * rows
    assert stem == "upsample_map", kernel
    planes, _, width, out_height, out_width, _, _, band, rows = numbers
    shared_bytes = 4 * (rows * width + 2 * out_width + 2 * band)
    return _row(planes * ceil_div(out_height, band), shared_bytes)


def staged_rows(size: int) -> int:
    """Return how many rows of logits of ``size`` columns a block keeps in shared memory."""
    return 34 if size <= 352 else 0


def upsample_bands(height: int, width: int, out_height: int, out_width: int) -> tuple[int, int]:
    """Return how many rows of output a block makes, and how many of input it keeps."""
    most = ceil_div(out_height, 8) * 8
    band = min(max(ceil_div(2048 // out_width, 8) * 8, 8), most)
    rows = min(height, band * height // out_height + 3)
    fits = 4 * rows * width + 8 * (out_width + band) <= 40960
    return band, rows if fits else 0


def _row(blocks: int, shared_bytes: int = 0) -> Shape:
    return (blocks, 1, 1), 128, shared_bytes


def _launch(kernel: str, *args: Argument) -> Launch:
    numbers = [int(argument) for argument in args if isinstance(argument, np.int32)]
    (x, y, _), block, shared_bytes = shape_of(kernel, numbers)
    return Launch(kernel, grid=(x, y), block=block, shared_bytes=shared_bytes, args=args)


def _lanes(array: DeviceArray, length: int) -> str:
    widest = 16 // array.dtype.itemsize
    return f"{element(array)}x{widest if length % widest == 0 else 1}"


def _pool_on_cpu(features: Any, rois: Any, pooled: Any, *, scale: float) -> None:
    planes = features.transpose(0, 3, 1, 2)
    found = roi_max_pool(planes, rois, pooled.shape[1:3], scale)
    pooled[:] = found.transpose(0, 2, 3, 1)


def _pool(
    memory: Memory,
    features: DeviceArray,
    rois: DeviceArray,
    pooled: DeviceArray,
    *,
    scale: float,
    rounding: str = "caffe",
    tables: bool = False,
) -> Launches:
    count, rows, columns, channels = pooled.shape
    suffix = _lanes(features, channels)
    maps = [features]
    for half in (1, 2, 4) if tables else ():
        maps.append(memory.empty(features.shape, features.dtype.type))
        kernel = f"foveate_square_table_{suffix}"
        yield _launch(kernel, *maps[-2:], *int32(*features.shape, half))
    form = "roi_max_pool_tables" if tables else "roi_max_pool"
    numbers = int32(*features.shape, count, rows, columns)
    rule = (np.float32(scale), np.int32(ROUNDINGS.index(rounding)))
    yield _launch(f"foveate_{form}_{suffix}", *maps, rois, pooled, *numbers, *rule)


def _upsample_on_cpu(maps: Any, second: Any, grown: Any) -> None:
    total = maps.astype(np.float64) + second
    grown[:] = upsampling.upsample(total, *grown.shape[2:], align_corners=False, relu=True)


def _upsample(
    memory: Memory,
    maps: DeviceArray,
    second: DeviceArray | None,
    grown: DeviceArray,
    *,
    align_corners: bool = False,
    relu: bool = True,
) -> Launches:
    del memory
    count, channels, height, width = maps.shape
    sizes = (height, width, *grown.shape[2:])
    suffix = _lanes(grown, grown.shape[2] * grown.shape[3])
    numbers = int32(count * channels, *sizes, int(align_corners), int(relu))
    bands = int32(*upsample_bands(*sizes))
    yield _launch(f"foveate_upsample_map_{suffix}", maps, second, grown, *numbers, *bands)


def _paste_on_cpu(
    logits: Any, windows: Any, count: Any, columns: Any, bits: Any, areas: Any, boxes: Any
) -> None:
    raise NotImplementedError  # only its kernel is tested, against the reference


def _paste(
    memory: Memory,
    logits: DeviceArray,
    windows: DeviceArray,
    count: DeviceArray | None,
    columns: DeviceArray | None,
    bits: DeviceArray,
    areas: DeviceArray,
    boxes: DeviceArray,
    *,
    threshold: float,
    width: int,
) -> Launches:
    total, size, _ = logits.shape
    height = bits.shape[1]
    bands = ceil_div(height, 64)
    partials = memory.empty((total, bands, 5), np.int32)
    arrays = (logits, windows, count, columns, bits, partials)
    rest = (np.float32(threshold), np.int32(staged_rows(size)))
    kernel = f"foveate_paste_windows_{element(logits)}"
    yield _launch(kernel, *arrays, *int32(total, size, height, width), *rest)
    yield _launch("foveate_paste_boxes", partials, areas, boxes, *int32(total, bands))


ROI_MAX_POOL = Op(
    "roi_max_pool",
    cpu=_pool_on_cpu,
    outputs=("pooled",),
    source="plugins/roi_max_pool/roi_max_pool.cuh",
    launches=_pool,
)
UPSAMPLE_MAP = Op(
    "upsample_map",
    cpu=_upsample_on_cpu,
    outputs=("grown",),
    source="plugins/bilinear_upsample/map.cuh",
    launches=_upsample,
)
PASTE = Op(
    "paste",
    cpu=_paste_on_cpu,
    outputs=("bits", "areas", "boxes"),
    source="mask_boxes/mask_boxes.cuh",
    launches=_paste,
)
