# SPDX-License-Identifier: Apache-2.0
"""The device kernels: where each is written, what it is given, and how it is launched.

The launchers in C (``launch.cu``), the interpreter of compiled kernels and a device layer that
loads cubins itself all launch the same grids; a test compares this table with the launchers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foveate.kernels import launch_shapes as shapes
from foveate.kernels.launch_shapes import Shape

__all__ = ["KERNELS", "SOURCES", "Kernel"]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One ``extern "C"`` entry point.

    Args:
        name: Its name in a compiled module.
        source: The file that defines it, relative to this folder.
        parameters: ``"type name"`` in the order of the call; types are ``pointer``, ``int``,
            ``float`` (32 bits) and ``double``.
        shape: Gives grid, block and dynamic shared memory for the numbers of a launch.
        element: ``"float32"`` or ``"float16"`` for kernels that exist for both, else None.
        lanes: Elements that one access moves.
    """

    name: str
    source: Path
    parameters: tuple[str, ...]
    shape: Shape
    element: str | None = None
    lanes: int = 1


def _family(
    stem: str, source: str, parameters: str, shape: Shape, *, lanes: bool = True
) -> list[Kernel]:
    """Return one kernel an element type and, if there are such, one an access width."""
    listed = tuple(part.strip() for part in parameters.split(","))
    found = []
    for short, element, widest in (("f32", "float32", 4), ("f16", "float16", 8)):
        for width in (widest, 1) if lanes else (1,):
            name = f"{stem}_{short}x{width}" if lanes else f"{stem}_{short}"
            found.append(
                Kernel(
                    name=name,
                    source=Path(source),
                    parameters=listed,
                    shape=shape,
                    element=element,
                    lanes=width,
                )
            )
    return found


_MAP_SHAPE = "int batch, int height, int width, int channels"
_POOLING = f"{_MAP_SHAPE}, int roi_count, int rows, int columns, float scale, int rounding"

_LIST = [
    *_family(
        "foveate_roi_max_pool",
        "roi_max_pool/roi_max_pool.cuh",
        f"pointer features, pointer rois, pointer pooled, {_POOLING}",
        shapes.roi_max_pool,
    ),
    *_family(
        "foveate_roi_max_pool_tables",
        "roi_max_pool/roi_max_pool.cuh",
        "pointer features, pointer table2, pointer table4, pointer table8, pointer rois, "
        f"pointer pooled, {_POOLING}",
        shapes.roi_max_pool,
    ),
    *_family(
        "foveate_square_table",
        "roi_max_pool/roi_max_pool.cuh",
        f"pointer source, pointer table, {_MAP_SHAPE}, int half",
        shapes.square_table,
    ),
]

KERNELS = {kernel.name: kernel for kernel in _LIST}
"""Every kernel by name."""

SOURCES = tuple(sorted({kernel.source for kernel in _LIST}))
"""Every file with kernels, relative to this folder."""
