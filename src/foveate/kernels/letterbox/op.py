# SPDX-License-Identifier: Apache-2.0
"""Resizing images, and placing them, normalized, on the canvases that engines read."""

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Array
from foveate.kernels.letterbox import cpu
from foveate.kernels.letterbox.taps import Resampling, resampling_of
from foveate.kernels.op import (
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    addresses,
    ceil_div,
    element,
    int32,
    require_at_most,
)

LONGEST_SIDE = 16384
"""Pixels per side of an image or canvas, so that positions fit 32-bit fractions."""

_TILE, _THREADS = 64, 256  # pixels per side of a tile, and threads per block
# The table or a band of bytes; the taps of a tile; and the staged part of the image.
_SHARED_BYTES = 3328 + 2 * 64 * 20 + 20480


def resize_launches(memory: Memory, image: DeviceArray, resized: DeviceArray) -> Launches:
    """Yield the single launch; see :func:`cpu.resize`."""
    old, new = _size(image), _size(resized)
    require_at_most(LONGEST_SIDE, max(*old, *new), "pixels per side")
    resampling = resampling_of(old, new)
    yield Launch(
        "foveate_resize",
        grid=_tiles(*new),
        block=_THREADS,
        shared_bytes=_SHARED_BYTES,
        args=(
            *(image, resized, memory.upload(resampling.taps)),
            *int32(*old, *new, resampling.method),
            resampling.scale,
        ),
    )


def letterbox_launches(
    memory: Memory,
    image: DeviceArray,
    canvases: Sequence[DeviceArray],
    *,
    sizes: Sequence[tuple[int, int]],
    border: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    fill: int,
) -> Launches:
    """Yield the single launch for all canvases; see :func:`cpu.letterbox`."""
    old = _size(image)
    sides = (*old, *(side for canvas in canvases for side in canvas.shape[2:]))
    require_at_most(LONGEST_SIDE, max(sides), "pixels per side")
    resamplings = [resampling_of(old, size) for size in sizes]
    levels, tiles = _levels(canvases, sizes, resamplings)
    taps = np.concatenate([resampling.taps for resampling in resamplings])
    tables = (addresses(canvases), levels, taps, cpu.normalized_bytes(mean, std))
    yield Launch(
        f"foveate_letterbox_{element(canvases[0])}",
        grid=tiles,
        block=_THREADS,
        shared_bytes=_SHARED_BYTES,
        args=(
            image,
            *(memory.upload(table) for table in tables),
            *int32(len(canvases), *old, border, fill),
        ),
    )


def _levels(
    canvases: Sequence[DeviceArray],
    sizes: Sequence[tuple[int, int]],
    resamplings: Sequence[Resampling],
) -> tuple[Array, int]:
    """Return the levels, (N, 8) int32 of which the last is the bits of a float32, and all tiles."""
    levels = np.empty((len(canvases), 8), np.int32)
    tiles = taps = 0
    for level, canvas, size, resampling in zip(levels, canvases, sizes, resamplings, strict=True):
        height, width = canvas.shape[2:]
        level[:7] = (tiles, height, width, *size, taps, resampling.method)
        level[7] = resampling.scale.view(np.int32)
        tiles += _tiles(height, width)
        taps += sum(size)
    return levels, tiles


def _size(image: DeviceArray) -> tuple[int, int]:
    """Return rows and columns."""
    rows, columns, _ = image.shape
    return rows, columns


def _tiles(height: int, width: int) -> int:
    return ceil_div(height, _TILE) * ceil_div(width, _TILE)


RESIZE = Op(
    "resize",
    cpu=cpu.resize,
    outputs=("resized",),
    source="letterbox/letterbox.cuh",
    launches=resize_launches,
)
LETTERBOX = Op(
    "letterbox",
    cpu=cpu.letterbox,
    outputs=("canvases",),
    source="letterbox/letterbox.cuh",
    launches=letterbox_launches,
)
