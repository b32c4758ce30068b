# SPDX-License-Identifier: Apache-2.0
"""From a call of an operation to the launches of its device kernels.

For a device layer that loads compiled kernels itself. Each function takes the arguments of the
operation's host version as arrays of the device, and yields its launches in order. What a kernel
needs beside them, small tables and room for intermediate results, it asks of a :class:`Scratch`.
The launchers in C (``launch.cu``) do the same for programs that link them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from foveate.errors import BackendError
from foveate.kernels.launch_shapes import LaunchShape, paste_stage_rows
from foveate.kernels.launches import KERNELS
from foveate.kernels.status import check_status

if TYPE_CHECKING:
    from pathlib import Path

    from foveate.arrays import Array
    from foveate.kernels.op import Op

__all__ = ["DeviceArray", "Launch", "Scratch", "launches_of"]

INT, UINT, FLOAT = np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.float32)

_TOO_LARGE = -4  # the launchers' status
_MOST_CELLS, _MOST_WINDOWS, _LONGEST_SIDE = 65536, 2048, 16384
_NUMBERS: dict[str, Callable[[Any], np.generic]] = {
    "pointer": lambda array: np.uint64(0 if array is None else array.address),
    "int": np.int32,
    "float": np.float32,
    "double": np.float64,
}


class DeviceArray(Protocol):
    """A dense array in memory of a device."""

    @property
    def address(self) -> int:
        """Address of its first byte."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Kind of the elements."""


class Scratch(Protocol):
    """Memory that lives until the launches that were asked with it are done."""

    def upload(self, array: Array) -> DeviceArray:
        """Return a copy of a small array."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> DeviceArray:
        """Return memory whose content is undefined."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch of one kernel.

    Args:
        kernel: Its name in the module that is compiled from ``source``.
        source: File, relative to the folder of the kernels.
        shape: Grid, block and dynamic shared memory.
        arguments: Numbers of the widths that the kernel takes, addresses among them.
    """

    kernel: str
    source: Path
    shape: LaunchShape
    arguments: tuple[np.generic, ...]


Steps: TypeAlias = Iterator[tuple[str, dict[str, Any]]]
"""Names of kernels, and their arguments by name."""


def launches_of(
    op: Op,
    scratch: Scratch,
    *buffers: DeviceArray | Sequence[DeviceArray],
    **numbers: Any,  # noqa: ANN401 - the numbers of each operation
) -> Iterator[Launch]:
    """Yield the launches of an operation, in order.

    Args:
        op: The operation.
        scratch: Gives memory for tables and intermediate results.
        buffers: The operation's inputs and outputs.
        numbers: Its numbers.

    Raises:
        BackendError: The operation has no device kernels.
        OptionError: A size is beyond what one launch can do.
    """
    if op.name not in _STEPS:
        raise BackendError(
            f"the operation {op.name!r} has no device kernels",
            remedy="run it on the host: device='host'",
        )
    for name, arguments in _STEPS[op.name](scratch, *buffers, **numbers):
        yield _launch(name, arguments)


def _launch(name: str, arguments: dict[str, Any]) -> Launch:
    kernel = KERNELS[f"foveate_{name}"]
    kinds = {parameter: kind for kind, parameter in map(str.split, kernel.parameters)}
    assert kinds.keys() == arguments.keys(), f"{name}: {sorted(kinds.keys() ^ arguments.keys())}"
    sizes = {parameter: arguments[parameter] for parameter, kind in kinds.items() if kind == "int"}
    return Launch(
        kernel=kernel.name,
        source=kernel.source,
        shape=kernel.shape(**sizes, lanes=kernel.lanes),
        arguments=tuple(_NUMBERS[kind](arguments[parameter]) for parameter, kind in kinds.items()),
    )


def _resize(scratch: Scratch, picture: DeviceArray, resized: DeviceArray) -> Steps:
    del scratch
    _check_sides("resize", *picture.shape[:2], *resized.shape[:2])
    yield (
        "pyramid_resize",
        {
            "picture": picture,
            "resized": resized,
            "picture_height": picture.shape[0],
            "picture_width": picture.shape[1],
            "height": resized.shape[0],
            "width": resized.shape[1],
            "resampling": 0,
        },
    )


def _place(
    scratch: Scratch,
    picture: DeviceArray,
    canvas: DeviceArray,
    *,
    height: int,
    width: int,
    border: int,
    mean: Sequence[float],
    std: Sequence[float],
    fill: int,
) -> Steps:
    canvas_height, canvas_width = canvas.shape[2:]
    _check_sides("place", *picture.shape[:2], canvas_height, canvas_width)
    blocks = -(-canvas_height // 64) * -(-canvas_width // 64)
    plan = [canvas_height, canvas_width, height, width, border, 0]
    table = (np.arange(256) - np.array(mean)[:, None]) / np.array(std)[:, None]
    yield (
        f"pyramid_place_{_element(canvas)}",
        {
            "picture": picture,
            "canvases": scratch.upload(_addresses([canvas])),
            "plan": scratch.upload(np.array(plan, INT)),
            "table": scratch.upload(table.astype(FLOAT)),
            "picture_height": picture.shape[0],
            "picture_width": picture.shape[1],
            "levels": 1,
            "blocks": blocks,
            "resampling": 0,
            "to_bytes": 1,
            "fill": fill,
        },
    )


def _select_top_k(
    scratch: Scratch,
    grids: Sequence[DeviceArray],
    picks: DeviceArray,
    geometry: DeviceArray,
    scores: DeviceArray,
    count: DeviceArray,
    *,
    factors: Sequence[tuple[float, float]],
    size: int,
    stride: int,
    padding: int,
    window_nms: float,
) -> Steps:
    shapes = np.array([grid.shape[2:] for grid in grids], INT).reshape(-1, 2)
    starts = np.cumsum([0, *shapes.prod(axis=1)]).astype(INT)
    cells, limit = int(starts[-1]), picks.shape[0]
    if cells > _MOST_CELLS or limit > _MOST_WINDOWS:
        check_status(_TOO_LARGE, "select_top_k")
    known = {
        "grids": scratch.upload(_addresses(grids)),
        "shapes": scratch.upload(shapes),
        "starts": scratch.upload(starts),
    }
    keys, order = scratch.empty((cells,), UINT), scratch.empty((cells,), INT)
    windows = scratch.empty((cells, 4), FLOAT)
    sizes = {"levels": len(grids), "cells": cells}
    if cells:
        yield (
            "select_cells",
            {
                **known,
                "factors": scratch.upload(np.array(factors, np.float64)),
                "keys": keys,
                "windows": windows,
                **sizes,
                "size": size,
                "stride": stride,
                "padding": padding,
            },
        )
        yield "select_order", {"keys": keys, "order": order, "cells": cells}
    yield (
        "select_scan",
        {
            **known,
            "order": order,
            "windows": windows,
            "picks": picks,
            "geometry": geometry,
            "scores": scores,
            "count": count,
            **sizes,
            "limit": limit,
            "iou": window_nms,
        },
    )


def _gather_windows(
    scratch: Scratch,
    maps: Sequence[DeviceArray],
    picks: DeviceArray,
    patches: DeviceArray,
    *,
    step: int,
) -> Steps:
    count, channels, *sides = patches.shape
    size = sides[0] if sides else 1
    wide = 16 // patches.dtype.itemsize
    is_wide = channels * size * size % wide == 0 and patches.address % 16 == 0
    shapes = np.array([item.shape[2:] for item in maps], INT).reshape(-1, 2)
    if count and channels and size:
        yield (
            f"gather_windows_{_element(patches)}x{wide if is_wide else 1}",
            {
                "maps": scratch.upload(_addresses(maps)),
                "shapes": scratch.upload(shapes),
                "picks": picks,
                "patches": patches,
                "count": count,
                "levels": len(maps),
                "channels": channels,
                "size": size,
                "step": step,
            },
        )


def _mask_boxes(
    scratch: Scratch,
    logits: DeviceArray,
    geometry: DeviceArray,
    count: DeviceArray,
    boxes: DeviceArray,
    *,
    threshold: float,
    picture_height: int,
    picture_width: int,
) -> Steps:
    windows, size = logits.shape[:2]
    bands = -(-picture_height // 64)
    partials = scratch.empty((windows, bands, 5), INT)
    if not windows:
        return
    yield (
        f"paste_windows_{_element(logits)}",
        {
            "logits": logits,
            "geometry": geometry,
            "count": count,
            "columns": None,
            "bits": None,
            "partials": partials,
            "windows": windows,
            "size": size,
            "height": picture_height,
            "width": picture_width,
            "threshold": threshold,
            "square": 0,
            "stage_rows": paste_stage_rows(size),
        },
    )
    sizes = {"windows": windows, "bands": bands}
    yield "paste_boxes", {"partials": partials, "areas": None, "boxes": boxes, **sizes}


def _nms(
    scratch: Scratch,
    boxes: DeviceArray,
    scores: DeviceArray,
    count: DeviceArray,
    kept: DeviceArray,
    kept_count: DeviceArray,
    *,
    iou: float,
) -> Steps:
    capacity = boxes.shape[0]
    if capacity > _MOST_CELLS:
        check_status(_TOO_LARGE, "nms")
    words = -(-capacity // 32)
    keys, order = scratch.empty((capacity,), UINT), scratch.empty((capacity,), INT)
    masks = scratch.empty((capacity, words), UINT)
    sizes = {"capacity": capacity}
    if capacity:
        asked = {"boxes": boxes, "scores": scores, "count": count}
        yield "nms_keys", {**asked, "keys": keys, **sizes}
        yield "nms_order", {"keys": keys, "order": order, **sizes}
        pairs = {"boxes": boxes, "groups": None, "order": order, "masks": masks}
        yield "nms_masks", {**pairs, **sizes, "words": words, "iou": iou}
    found = {"order": order, "masks": masks, "kept": kept, "kept_count": kept_count}
    yield "nms_scan", {**found, **sizes, "limit": kept.shape[0]}


def _take_boxes(
    scratch: Scratch,
    boxes: DeviceArray,
    kept: DeviceArray,
    taken: DeviceArray,
    *,
    horizontal: float,
    vertical: float,
) -> Steps:
    del scratch
    sizes = {"capacity": boxes.shape[0], "count": kept.shape[0]}
    factors = {"horizontal": horizontal, "vertical": vertical}
    if kept.shape[0]:
        yield "take_boxes", {"boxes": boxes, "kept": kept, "taken": taken, **sizes, **factors}


def _decode_boxes(
    scratch: Scratch,
    boxes: DeviceArray,
    deltas: DeviceArray,
    decoded: DeviceArray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    height: int,
    width: int,
) -> Steps:
    del scratch
    rows, classes = deltas.shape[:2]
    numbers = {
        f"{name}_{axis}": value
        for name, values in (("mean", mean), ("std", std))
        for axis, value in zip("xywh", values, strict=True)
    }
    if rows and classes:
        arrays = {"boxes": boxes, "deltas": deltas, "results": decoded}
        sizes = {"rows": rows, "classes": classes, "height": height, "width": width}
        yield "decode_boxes", {**arrays, **numbers, **sizes}


_STEPS: dict[str, Callable[..., Steps]] = {
    "resize": _resize,
    "place": _place,
    "select_top_k": _select_top_k,
    "gather_windows": _gather_windows,
    "mask_boxes": _mask_boxes,
    "nms": _nms,
    "take_boxes": _take_boxes,
    "decode_boxes": _decode_boxes,
}


def _element(array: DeviceArray) -> str:
    """Return the part of a kernel's name that says its element type."""
    return {2: "f16", 4: "f32"}[array.dtype.itemsize]


def _addresses(arrays: Sequence[DeviceArray]) -> Array:
    return np.array([array.address for array in arrays], np.uint64)


def _check_sides(name: str, *sides: int) -> None:
    if max(sides) > _LONGEST_SIDE:
        check_status(_TOO_LARGE, name)
