# SPDX-License-Identifier: Apache-2.0
"""Resizing images, and placing them, normalized, on the canvases that engines read."""

from collections.abc import Sequence

import numpy as np

from foveate.kernels.letterbox import cpu
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
_SHARED_BYTES = 23808  # the table or a band of bytes, and the staged part of the image


def resize_launches(memory: Memory, image: DeviceArray, resized: DeviceArray) -> Launches:
    """Yield the single launch; see :func:`cpu.resize`."""
    del memory
    sides = (*image.shape[:2], *resized.shape[:2])
    require_at_most(LONGEST_SIDE, max(sides), "pixels per side")
    yield Launch(
        "foveate_resize",
        grid=_tiles(*resized.shape[:2]),
        block=_THREADS,
        shared_bytes=_SHARED_BYTES,
        args=(image, resized, *int32(*sides)),
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
    shapes = [canvas.shape[2:] for canvas in canvases]
    sides = (*image.shape[:2], *(side for shape in shapes for side in shape))
    require_at_most(LONGEST_SIDE, max(sides), "pixels per side")
    tiles = [_tiles(*shape) for shape in shapes]
    levels = [
        (sum(tiles[:index]), *shape, *size)
        for index, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
    ]
    tables = (addresses(canvases), np.array(levels, np.int32), cpu.normalized_bytes(mean, std))
    yield Launch(
        f"foveate_letterbox_{element(canvases[0])}",
        grid=sum(tiles),
        block=_THREADS,
        shared_bytes=_SHARED_BYTES,
        args=(
            image,
            *(memory.upload(table) for table in tables),
            *int32(len(canvases), *image.shape[:2], border, fill),
        ),
    )


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
