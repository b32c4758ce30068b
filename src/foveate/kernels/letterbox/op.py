# SPDX-License-Identifier: Apache-2.0
"""Resizing images, and placing them, normalized, on the canvas that an engine reads."""

from foveate.kernels.letterbox import cpu
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
    canvas: DeviceArray,
    *,
    height: int,
    width: int,
    border: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    fill: int,
) -> Launches:
    """Yield the single launch; see :func:`cpu.letterbox`."""
    sides = (*image.shape[:2], *canvas.shape[2:])
    require_at_most(LONGEST_SIDE, max(sides), "pixels per side")
    table = memory.upload(cpu.normalized_bytes(mean, std))
    yield Launch(
        f"foveate_letterbox_{element(canvas)}",
        grid=_tiles(*canvas.shape[2:]),
        block=_THREADS,
        shared_bytes=_SHARED_BYTES,
        args=(image, canvas, table, *int32(*sides, height, width, border, fill)),
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
    outputs=("canvas",),
    source="letterbox/letterbox.cuh",
    launches=letterbox_launches,
)
