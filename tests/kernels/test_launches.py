# SPDX-License-Identifier: Apache-2.0
"""The launches that operations yield, checked without a device against the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike
from tests.gpu.operations import CASES
from tests.kernels.compiled_matrix import SOURCES, entries_of
from tests.kernels.every_op import OPS
from tests.kernels.plugin_ops import PASTE, ROI_MAX_POOL, UPSAMPLE_MAP
from tests.kernels.running import Array
from tests.samples.kernel_compilers import needs_nvcc

from foveate.errors import OptionError
from foveate.kernels import Launch, Op
from foveate.kernels.crop_features.op import CROP_FEATURES
from foveate.kernels.letterbox.op import LETTERBOX, RESIZE
from foveate.kernels.mask_boxes.op import MASK_BOXES
from foveate.kernels.nms.op import GATHER_BOXES, NMS
from foveate.kernels.postprocess.op import POSTPROCESS
from foveate.kernels.select_top_k.op import SELECT_TOP_K
from foveate.kernels.take_masks.op import TAKE_MASKS

WIDTHS = {np.uint64: "u64", np.int32: "u32", np.float32: "f32", np.float64: "f64"}


@dataclass(frozen=True)
class Stub:
    """An array of a device that exists by its address alone."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int = 0x1000


class StubMemory:
    """Gives addresses, and counts the bytes that an operation takes."""

    def __init__(self) -> None:
        self.bytes = 0

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Stub:
        self.bytes += prod(shape) * np.dtype(dtype).itemsize
        return Stub(shape, np.dtype(dtype))

    def upload(self, array: Array) -> Stub:
        return Stub(array.shape, array.dtype)


def launches(op: Op, *arrays: Stub | Sequence[Stub] | None, **numbers: Any) -> list[Launch]:
    assert op.launches is not None
    return list(op.launches(StubMemory(), *arrays, **numbers))


def names(found: Sequence[Launch]) -> list[str]:
    return [launch.kernel.removeprefix("foveate_") for launch in found]


def stub(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> Stub:
    return Stub(shape, np.dtype(dtype))


def of_case(name: str) -> tuple[Op, list[Launch]]:
    """Return the launches of a case of the tests on a GPU."""
    call = CASES[name](np.random.default_rng(0), 1)
    given: list[Any] = [
        stub(item.shape, item.dtype)
        if isinstance(item, np.ndarray)
        else item and [stub(one.shape, one.dtype) for one in item]
        for item in call.inputs
    ]
    outputs: list[Any] = [
        [stub(*one) for one in item] if isinstance(item, list) else stub(*item)
        for item in call.outputs
    ]
    return call.op, launches(call.op, *given, *outputs, **call.numbers)


def variants() -> list[tuple[Op, list[Launch]]]:
    """Return launches of the kernels that no case has: other element types and widths."""
    half, size = np.float16, {"threshold": 0.5, "image_height": 9, "image_width": 9}
    found = [
        (LETTERBOX, launches(LETTERBOX, SMALL, [stub((1, 3, 4, 4), half)], **LEVEL)),
        (MASK_BOXES, launches(MASK_BOXES, stub((2, 8, 8), half), *[stub((2, 4))] * 3, **size)),
    ]
    found.append((SELECT_TOP_K, select(15, 9, half)))
    found.append((POSTPROCESS, postprocess(4, 3, 9, half)))
    for side in (8, 7):
        masks = stub((2, side, side), half)
        taken = launches(TAKE_MASKS, masks, None, stub((1,)), masks)
        found.append((TAKE_MASKS, taken))
    for dtype in (np.float32, half):
        bits = stub((2, 9, 1), np.int32)
        pasted = (stub((2, 8, 8), dtype), *[stub((2, 4))] * 3, bits, stub((2,)), stub((2, 4)))
        found.append((PASTE, launches(PASTE, *pasted, threshold=0.5, width=9)))
        for channels in (16, 3):
            maps, pooled = stub((1, 5, 5, channels), dtype), stub((2, 7, 7, channels), dtype)
            for tables in (False, True):
                pool = launches(ROI_MAX_POOL, maps, stub((2, 5)), pooled, scale=1.5, tables=tables)
                found.append((ROI_MAX_POOL, pool))
            patches = stub((2, channels, 1, 1), dtype)
            level = stub((1, channels, 5, 5), dtype)
            crop = launches(CROP_FEATURES, [level], stub((2, 3)), patches, step=1)
            found.append((CROP_FEATURES, crop))
        for side in (8, 7):
            grown = stub((1, 1, side, side), dtype)
            up = launches(UPSAMPLE_MAP, stub((1, 1, 4, 4), dtype), None, grown)
            found.append((UPSAMPLE_MAP, up))
    return found


@needs_nvcc
def test_every_kernel_is_launched_with_arguments_of_its_number_and_widths() -> None:
    launched: set[tuple[str, str]] = set()
    for op, found in [*map(of_case, CASES), *variants()]:
        for launch in found:
            kinds = tuple(WIDTHS[type(number)] for number in launch.numbers)
            assert kinds == entries_of(Path(op.source))[launch.kernel], launch.kernel
            launched.add((op.source, launch.kernel))
    kernels = {(str(source), name) for source in SOURCES for name in entries_of(source)}
    assert launched == kernels


def test_every_operation_names_a_source_of_kernels() -> None:
    assert {Path(op.source) for op in OPS} <= set(SOURCES)
    assert len(OPS) == 9


@pytest.mark.parametrize(
    ("shape", "dtype", "address", "suffix"),
    [
        ((5, 6, 8, 8), np.float32, 0x1000, "f32x4"),
        ((5, 4), np.float32, 0x1000, "f32x4"),
        ((5, 4), np.float16, 0x1000, "f16x1"),
        ((5, 24, 1, 1), np.float16, 0x1000, "f16x8"),
        ((5, 3, 3, 3), np.float32, 0x1000, "f32x1"),
        ((5, 2, 3, 3), np.float32, 0x1000, "f32x1"),
        ((5, 6, 8, 8), np.float32, 0x1008, "f32x1"),
        ((5, 6, 8, 8), np.float32, 0x100F, "f32x1"),
    ],
)
def test_features_are_cropped_sixteen_bytes_at_a_time_where_possible(
    shape: tuple[int, ...], dtype: DTypeLike, address: int, suffix: str
) -> None:
    patches = Stub(shape, np.dtype(dtype), address)
    maps = [stub((1, shape[1], 10, 20), dtype)]
    (launch,) = launches(CROP_FEATURES, maps, stub((5, 3)), patches, step=2)
    assert launch.kernel == f"foveate_crop_features_{suffix}"


@pytest.mark.parametrize(
    ("side", "dtype", "addresses", "suffix"),
    [
        (4, np.float32, (0x1000, 0x2000), "x16"),
        (4, np.float16, (0x1000, 0x2000), "x16"),
        (5, np.float32, (0x1000, 0x2000), "x2"),
        (4, np.float32, (0x1008, 0x2000), "x2"),
        (4, np.float32, (0x1000, 0x2004), "x2"),
    ],
)
def test_masks_are_taken_sixteen_bytes_at_a_time_where_possible(
    side: int, dtype: DTypeLike, addresses: tuple[int, int], suffix: str
) -> None:
    logits, taken = (Stub((3, side, side), np.dtype(dtype), at) for at in addresses)
    (launch,) = launches(TAKE_MASKS, logits, stub((9,)), stub((1,)), taken)
    assert launch.kernel == f"foveate_take_masks_{suffix}"


@pytest.mark.parametrize(("side", "slices"), [(160, 7), (64, 1), (65, 9)])
def test_each_window_has_a_block_for_each_1024_accesses(side: int, slices: int) -> None:
    masks = stub((30, side, side))
    (launch,) = launches(TAKE_MASKS, masks, None, stub((1,)), masks)
    assert launch.blocks == (slices, 30, 1)


NUMBERS: dict[Op, dict[str, Any]] = {
    CROP_FEATURES: {"step": 1},
    NMS: {"iou": 0.5},
    GATHER_BOXES: {"horizontal": 0.5, "vertical": 1.5, "offset": 80.0},
    MASK_BOXES: {"threshold": 0.5, "image_height": 9, "image_width": 9},
    TAKE_MASKS: {},
    SELECT_TOP_K: {
        "factors": [(1.0, 1.0)],
        "size": 9,
        "stride": 2,
        "padding": 3,
        "window_nms_iou": 0.5,
    },
    POSTPROCESS: {
        "mean": (0.0,) * 4,
        "std": (1.0,) * 4,
        "calibration": (0.0, 1.0, 0.0),
        "score_threshold": 0.5,
        "iou": 0.5,
        "height": 9,
        "width": 9,
    },
}


def select(cells: int, limit: int, dtype: DTypeLike = np.float32) -> list[Launch]:
    grids = [stub((1, 1, 1, cells), dtype)]
    outputs = [stub((limit, 3)), stub((limit, 4)), stub((limit,)), stub((1,))]
    return launches(SELECT_TOP_K, grids, *outputs, top_k=limit, **NUMBERS[SELECT_TOP_K])


def nms(boxes: int) -> list[Launch]:
    return launches(NMS, stub((boxes, 4)), *[stub((7,))] * 4, **NUMBERS[NMS])


def postprocess(rows: int, classes: int, limit: int, dtype: DTypeLike = np.float32) -> list[Launch]:
    inputs = [*[stub((rows, classes + 1), dtype)] * 2, *[stub((7, 4))] * 4]
    return launches(POSTPROCESS, *inputs, *[stub((limit,))] * 5, **NUMBERS[POSTPROCESS])


@pytest.mark.parametrize(
    ("found", "kernels"),
    [
        (select(0, 9), ["select_scan_f32"]),
        (nms(0), ["nms"]),
        (postprocess(0, 3, 10), ["postprocess_classes_f32", "postprocess_detections"]),
        (postprocess(6, 0, 10), ["postprocess_detections"]),
        (postprocess(6, 0, 0), ["postprocess_detections"]),
    ],
)
def test_without_candidates_only_the_end_is_launched(
    found: list[Launch], kernels: list[str]
) -> None:
    assert names(found) == kernels


@pytest.mark.parametrize(
    ("op", "arrays"),
    [
        (CROP_FEATURES, [[stub((1, 6, 9, 9))], stub((0, 3)), stub((0, 6, 8, 8))]),
        (CROP_FEATURES, [[stub((1, 0, 9, 9))], stub((5, 3)), stub((5, 0, 8, 8))]),
        (GATHER_BOXES, [stub((9, 4)), stub((0,)), stub((0, 4))]),
        (MASK_BOXES, [stub((0, 8, 8)), stub((0, 4)), stub((1,)), stub((0, 4))]),
        (TAKE_MASKS, [stub((0, 8, 8)), stub((3,)), stub((1,)), stub((0, 8, 8))]),
        (TAKE_MASKS, [stub((3, 0, 0)), stub((3,)), stub((1,)), stub((3, 0, 0))]),
    ],
)
def test_nothing_is_launched_for_nothing(op: Op, arrays: list[Any]) -> None:
    assert launches(op, *arrays, **NUMBERS[op]) == []


@pytest.mark.parametrize(
    ("rows", "classes", "limit", "megabytes"),
    [(100, 80, 100, 0.23), (400, 80, 100, 0.42), (1000, 80, 100, 0.81), (1000, 80, 80_000, 2.25)],
)
def test_the_scratch_memory_of_postprocessing_is_bounded(
    rows: int, classes: int, limit: int, megabytes: float
) -> None:
    assert POSTPROCESS.launches is not None
    memory, inputs = StubMemory(), [*[stub((rows, classes + 1))] * 2, *[stub((7, 4))] * 4]
    list(POSTPROCESS.launches(memory, *inputs, *[stub((limit,))] * 5, **NUMBERS[POSTPROCESS]))
    assert memory.bytes == classes * (8 * rows + 20 * min(rows, limit) + 4)
    assert memory.bytes <= megabytes * 1e6


@pytest.mark.parametrize(("limit", "blocks"), [(1, 1), (2, 2), (100, 8), (5000, 40)])
def test_a_thread_places_each_survivor_and_each_empty_place(limit: int, blocks: int) -> None:
    assert postprocess(9, 100, limit)[-1].blocks == (blocks, 1, 1)


MANY = stub((65536, 8, 8))
LARGE, SMALL = stub((16385, 4, 3)), stub((4, 4, 3))
LEVEL = {"sizes": [(4, 4)], "border": 0, "mean": (1, 2, 3), "std": (1, 2, 3), "fill": 9}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: select(65537, 9), "at most 65,536 windows of all levels, found 65,537"),
        (lambda: nms(65537), "at most 65,536 boxes, found 65,537"),
        (lambda: postprocess(65537, 8, 9), "at most 65,536 proposals, found 65,537"),
        (lambda: launches(RESIZE, LARGE, SMALL), "at most 16,384 pixels per side, found 16,385"),
        (lambda: launches(RESIZE, SMALL, LARGE), "at most 16,384 pixels per side, found 16,385"),
        (
            lambda: launches(LETTERBOX, LARGE, [stub((1, 3, 9, 9))], **LEVEL),
            "16,384 pixels per side",
        ),
        (lambda: launches(LETTERBOX, SMALL, [stub((1, 3, 9, 16385))], **LEVEL), "pixels per side"),
        (
            lambda: launches(CROP_FEATURES, [MANY], stub((65536, 3)), MANY, step=1),
            "at most 65,535 windows",
        ),
        (lambda: launches(TAKE_MASKS, MANY, None, stub((1,)), MANY), "at most 65,535 windows"),
    ],
)
def test_a_size_that_the_kernels_cannot_handle_is_refused(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        make()


def test_the_largest_sizes_are_launched() -> None:
    assert len(select(65536, 65536)) == 2
    assert len(nms(65536)) == 1
    assert len(postprocess(65536, 80, 9)) == 2
    assert len(launches(RESIZE, stub((16384, 4, 3)), SMALL)) == 1
