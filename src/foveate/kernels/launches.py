# SPDX-License-Identifier: Apache-2.0
"""The device kernels: where each is written, what it is given, and how it is launched.

The launchers in C (``launch.cu``), the interpreter of compiled kernels and a device layer that
loads cubins itself all launch the same grids; a test compares this table with the launchers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from foveate.kernels import launch_shapes as shapes
from foveate.kernels.launch_shapes import Shape


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


def _kernel(
    name: str, parameters: str, shape: Shape, *, element: str | None = None, lanes: int = 1
) -> Kernel:
    """Return a kernel of the file that is being listed; see :func:`_in`."""
    return Kernel(
        name=f"foveate_{name}",
        source=Path(),
        parameters=tuple(part.strip() for part in parameters.split(",")),
        shape=shape,
        element=element,
        lanes=lanes,
    )


def _typed(name: str, parameters: str, shape: Shape) -> list[Kernel]:
    """Return one kernel an element type."""
    return [
        _kernel(f"{name}_f32", parameters, shape, element="float32"),
        _kernel(f"{name}_f16", parameters, shape, element="float16"),
    ]


def _wide(name: str, parameters: str, shape: Shape) -> list[Kernel]:
    """Return one kernel an element type and width of access: 16 bytes, or one element."""
    return [
        _kernel(f"{name}_f32x4", parameters, shape, element="float32", lanes=4),
        _kernel(f"{name}_f32x1", parameters, shape, element="float32"),
        _kernel(f"{name}_f16x8", parameters, shape, element="float16", lanes=8),
        _kernel(f"{name}_f16x1", parameters, shape, element="float16"),
    ]


def _in(source: str, *kernels: Kernel) -> list[Kernel]:
    """Name the file of some kernels."""
    return [replace(kernel, source=Path(source)) for kernel in kernels]


_MAP_SHAPE = "int batch, int height, int width, int channels"
_POOLING = f"{_MAP_SHAPE}, int roi_count, int rows, int columns, float scale, int rounding"
_REGRESSION = (
    "double mean_x, double mean_y, double mean_w, double mean_h, double std_x, double std_y, "
    "double std_w, double std_h"
)

_LIST = [
    *_in(
        "plugins/roi_max_pool/roi_max_pool.cuh",
        *_wide(
            "roi_max_pool",
            f"pointer features, pointer rois, pointer pooled, {_POOLING}",
            shapes.roi_max_pool,
        ),
        *_wide(
            "roi_max_pool_tables",
            "pointer features, pointer table2, pointer table4, pointer table8, pointer rois, "
            f"pointer pooled, {_POOLING}",
            shapes.roi_max_pool,
        ),
        *_wide(
            "square_table",
            f"pointer source, pointer table, {_MAP_SHAPE}, int half",
            shapes.square_table,
        ),
    ),
    *_in(
        "mask_boxes/mask_boxes.cuh",
        *_typed(
            "paste_windows",
            "pointer logits, pointer geometry, pointer count, pointer columns, pointer bits, "
            "pointer partials, int windows, int size, int height, int width, float threshold, "
            "int square, int stage_rows",
            shapes.paste_windows,
        ),
        _kernel(
            "paste_boxes",
            "pointer partials, pointer areas, pointer boxes, int windows, int bands",
            shapes.paste_boxes,
        ),
    ),
    *_in(
        "plugins/bilinear_upsample/map.cuh",
        *_wide(
            "upsample_map",
            "pointer input, pointer second, pointer output, int planes, int height, int width, "
            "int out_height, int out_width, int align_corners, int relu, int band_rows, "
            "int stage_rows",
            shapes.upsample_map,
        ),
    ),
    *_in(
        "gather_windows/gather_windows.cuh",
        *_wide(
            "gather_windows",
            "pointer maps, pointer shapes, pointer picks, pointer patches, int count, "
            "int levels, int channels, int size, int step",
            shapes.gather_windows,
        ),
    ),
    *_in(
        "nms/nms.cuh",
        _kernel(
            "nms_keys",
            "pointer boxes, pointer scores, pointer count, pointer keys, int capacity",
            shapes.nms_rank,
        ),
        _kernel("nms_order", "pointer keys, pointer order, int capacity", shapes.nms_rank),
        _kernel(
            "nms_masks",
            "pointer boxes, pointer groups, pointer order, pointer masks, int capacity, "
            "int words, double iou",
            shapes.nms_masks,
        ),
        _kernel(
            "nms_scan",
            "pointer order, pointer masks, pointer kept, pointer kept_count, int capacity, "
            "int limit",
            shapes.nms_scan,
        ),
    ),
    *_in(
        "select_top_k/select_top_k.cuh",
        _kernel(
            "select_cells",
            "pointer grids, pointer shapes, pointer starts, pointer factors, pointer keys, "
            "pointer windows, int levels, int cells, int size, int stride, int padding",
            shapes.select_rank,
        ),
        _kernel("select_order", "pointer keys, pointer order, int cells", shapes.select_rank),
        _kernel(
            "select_scan",
            "pointer grids, pointer shapes, pointer starts, pointer order, pointer windows, "
            "pointer picks, pointer geometry, pointer scores, pointer count, int levels, "
            "int cells, int limit, double iou",
            shapes.select_scan,
        ),
    ),
    *_in(
        "decode_boxes/decode_boxes.cuh",
        _kernel(
            "decode_boxes",
            "pointer boxes, pointer deltas, pointer results, int rows, int classes, "
            f"{_REGRESSION}, int height, int width",
            shapes.decode_boxes,
        ),
    ),
    *_in(
        "finish/finish.cuh",
        _kernel(
            "finish_candidates",
            "pointer probabilities, pointer deltas, pointer boxes, pointer scores, pointer kept, "
            "pointer kept_count, pointer candidate_boxes, pointer candidate_scores, "
            f"pointer candidate_labels, int rows, int classes, int capacity, {_REGRESSION}, "
            "double bias, double slope, double weight, float score_threshold, int height, int width",
            shapes.finish_candidates,
        ),
        _kernel(
            "finish_gather",
            "pointer winners, pointer boxes, pointer scores, pointer kept, pointer found_boxes, "
            "pointer found_scores, pointer found_labels, pointer found_rows, int limit, "
            "int classes",
            shapes.finish_gather,
        ),
    ),
    *_in(
        "take_boxes/take_boxes.cuh",
        _kernel(
            "take_boxes",
            "pointer boxes, pointer kept, pointer taken, int capacity, int count, "
            "float horizontal, float vertical",
            shapes.take_boxes,
        ),
    ),
    *_in(
        "pyramid/pyramid.cuh",
        *_typed(
            "pyramid_place",
            "pointer image, pointer canvases, pointer plan, pointer table, int image_height, "
            "int image_width, int levels, int blocks, int resampling, int to_bytes, int fill",
            shapes.pyramid_place,
        ),
        _kernel(
            "pyramid_resize",
            "pointer image, pointer resized, int image_height, int image_width, "
            "int height, int width, int resampling",
            shapes.pyramid_resize,
        ),
    ),
]

KERNELS = {kernel.name: kernel for kernel in _LIST}
"""Every kernel by name."""

SOURCES = tuple(sorted({kernel.source for kernel in _LIST}))
"""Every file with kernels, relative to this folder."""
