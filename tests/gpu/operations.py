# SPDX-License-Identifier: Apache-2.0
"""Calls of every operation and kernel of a device, with what they must give.

They run on a GPU (``tests/gpu``) and, where there is none, on the driver that interprets PTX
(``tests/simulated_gpu/ptx/test_cuda_device.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from tests.gpu.engine_kernels import ROI_MAX_POOL, UPSAMPLE_MAP

from foveate.kernels.decode_boxes import DECODE_BOXES
from foveate.kernels.finish import FINISH
from foveate.kernels.gather_windows import GATHER_WINDOWS
from foveate.kernels.mask_boxes import MASK_BOXES
from foveate.kernels.nms import NMS
from foveate.kernels.op import Op
from foveate.kernels.pyramid import PLACE, RESIZE
from foveate.kernels.select_top_k import SELECT_TOP_K
from foveate.kernels.take_boxes import TAKE_BOXES
from foveate.runtime.devices import Buffer, CpuDevice, Device

Array: TypeAlias = np.ndarray

__all__ = ["CASES", "Call", "assert_right", "run"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of an operation.

    Args:
        op: The operation.
        inputs: Arrays, or lists of arrays, in the order of its arguments.
        outputs: Shape and dtype of each output.
        numbers: Its numbers.
        tolerance: Largest difference from the host's result; 0: equal in every bit.
    """

    op: Op
    inputs: Sequence[Array | Sequence[Array]]
    outputs: Sequence[tuple[tuple[int, ...], str]]
    numbers: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0


def run(device: Device, call: Call) -> list[Array]:
    """Upload, launch, download; outputs are poisoned before."""
    stream = device.stream()

    def upload(array: Array) -> Buffer:
        buffer = device.allocate(array.shape, array.dtype)
        device.upload(array, buffer, stream)
        return buffer

    inputs = [
        upload(given) if isinstance(given, np.ndarray) else [upload(item) for item in given]
        for given in call.inputs
    ]
    poisoned = [
        np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xA5, np.uint8)
        .view(dtype)
        .reshape(shape)
        for shape, dtype in call.outputs
    ]
    outputs = [upload(array) for array in poisoned]
    device.launch(call.op, stream, *inputs, *outputs, **call.numbers)
    results = [np.empty(shape, dtype) for shape, dtype in call.outputs]
    for buffer, result in zip(outputs, results, strict=True):
        device.download(buffer, result, stream)
    stream.synchronize()
    return results


def assert_right(device: Device, call: Call) -> None:
    """Compare with what the host gives, or the reference."""
    for found, want in zip(run(device, call), run(CpuDevice(), call), strict=True):
        if call.tolerance:
            difference = np.abs(found.astype(np.float64) - want.astype(np.float64))
            assert difference.max() <= call.tolerance
        else:
            np.testing.assert_array_equal(found, want)


def _boxes(generator: np.random.Generator, count: int, extent: int) -> Array:
    corners = generator.integers(0, extent, (count, 2))
    sides = generator.integers(0, extent, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def _resize(generator: np.random.Generator, scale: int) -> Call:
    image = generator.integers(0, 256, (20 * scale, 31 * scale, 3)).astype(np.uint8)
    size = (10 * scale, 15 * scale)
    # The host rounds sums of bytes, OpenCV's way; the device rounds once.
    return Call(op=RESIZE, inputs=[image], outputs=[((*size, 3), "uint8")], tolerance=1)


def _place(generator: np.random.Generator, scale: int) -> Call:
    image = generator.integers(0, 256, (20 * scale, 31 * scale, 3)).astype(np.uint8)
    std = (57.0, 58.0, 59.0)
    return Call(
        op=PLACE,
        inputs=[image],
        outputs=[((1, 3, 32 * scale, 48 * scale), "float32")],
        numbers={
            "height": 20 * scale,
            "width": 31 * scale,
            "border": 4,
            "mean": (123.0, 116.0, 103.0),
            "std": std,
            "fill": 104,
        },
    )


def _select(generator: np.random.Generator, scale: int) -> Call:
    sides = [(3 * scale, 4 * scale), (6 * scale, 7 * scale)]
    grids = [generator.standard_normal((1, 1, *side)).astype(np.float32) for side in sides]
    count = 12 * scale
    return Call(
        op=SELECT_TOP_K,
        inputs=[grids],
        outputs=[
            ((count, 3), "int32"),
            ((count, 4), "float32"),
            ((count,), "float32"),
            ((1,), "int32"),
        ],
        numbers={
            "factors": ((2.0, 2.25), (1.0, 1.0)),
            "size": 160,
            "stride": 16,
            "padding": 32,
            "window_nms_iou": 0.7,
        },
    )


def _gather(generator: np.random.Generator, scale: int) -> Call:
    maps = [
        generator.standard_normal((1, 5 * scale, *side)).astype(np.float32)
        for side in ((10, 13), (20, 22))
    ]
    picks = np.array([[0, 1, 2], [1, 4, 3], [-1, 0, 0], [1, 0, 0]] * scale, np.int32)
    return Call(
        op=GATHER_WINDOWS,
        inputs=[maps, picks],
        outputs=[((len(picks), 5 * scale, 8, 8), "float32")],
        numbers={"step": 2},
    )


def _gather_vectors(generator: np.random.Generator, scale: int) -> Call:
    maps = [generator.standard_normal((1, 7 * scale, 4, 5)).astype(np.float32)]
    picks = np.array([[0, 1, 2], [-1, 0, 0], [0, 3, 4]], np.int32)
    return Call(
        op=GATHER_WINDOWS,
        inputs=[maps, picks],
        outputs=[((3, 7 * scale), "float32")],
        numbers={"step": 1},
    )


def _mask_boxes(generator: np.random.Generator, scale: int) -> Call:
    # Whole numbers and sides of a power of two: both ways of resampling are exact.
    count, size = 4 * scale, 16
    logits = generator.integers(-3, 2, (count, size, size)).astype(np.float32)
    corners = generator.integers(-30, 90, (count, 2))
    sides = generator.choice([16, 32, 64, 128], (count, 1))
    geometry = np.concatenate([corners, sides, sides], axis=1).astype(np.float32)
    existing = np.array([count - 1], np.int32)
    return Call(
        op=MASK_BOXES,
        inputs=[logits, geometry, existing],
        outputs=[((count, 4), "float32")],
        numbers={"threshold": 0.1, "image_height": 100, "image_width": 120},
    )


def _nms(generator: np.random.Generator, scale: int) -> Call:
    count = 50 * scale
    boxes = _boxes(generator, count, 40 * scale)
    scores = generator.permutation(count).astype(np.float32)
    return Call(
        op=NMS,
        inputs=[boxes, scores, np.array([count - 3], np.int32)],
        outputs=[((count,), "int32"), ((1,), "int32")],
        numbers={"iou": 0.4},
    )


def _take(generator: np.random.Generator, scale: int) -> Call:
    boxes = _boxes(generator, 20 * scale, 300)
    kept = generator.integers(-1, 20 * scale, 30 * scale).astype(np.int32)
    return Call(
        op=TAKE_BOXES,
        inputs=[boxes, kept],
        outputs=[((len(kept), 4), "float32")],
        numbers={"horizontal": 0.7, "vertical": 1.3},
    )


def _decode(generator: np.random.Generator, scale: int) -> Call:
    boxes = _boxes(generator, 9 * scale, 200)
    deltas = generator.standard_normal((9 * scale, 5, 4)).astype(np.float32)
    return Call(
        op=DECODE_BOXES,
        inputs=[boxes, deltas],
        outputs=[(deltas.shape, "float32")],
        numbers={
            "mean": (0.02, -0.03, 0.01, -0.02),
            "std": (0.1, 0.12, 0.2, 0.25),
            "height": 300,
            "width": 400,
        },
        tolerance=1e-3,  # pixels; the host computes in float32, the device in float64
    )


def _finish(generator: np.random.Generator, scale: int) -> Call:
    rows, classes, proposals = 12 * scale, 5, 20 * scale
    # Each class has a place of its own among the probabilities, so that no two scores are equal.
    order = generator.permutation(rows * (classes + 1)).reshape(rows, classes + 1)
    probabilities = ((order + 0.5) / order.size).astype(np.float32)
    boxes = _boxes(generator, proposals, 200)
    scores = generator.integers(-4, 5, proposals).astype(np.float32)
    kept = generator.permutation(proposals)[:rows].astype(np.int32)
    limit = 3 * rows
    # Multiples of 1/16, which move boxes exactly in both precisions, and sizes that stay.
    deltas = generator.integers(-4, 5, (rows, classes + 1, 4)).astype(np.float32) / 4
    deltas[:, :, 2:] = 1
    return Call(
        op=FINISH,
        inputs=[
            probabilities,
            deltas,
            boxes,
            scores,
            kept,
            np.array([rows - 2], np.int32),
        ],
        outputs=[
            ((limit, 4), "float32"),
            ((limit,), "float32"),
            ((limit,), "int64"),
            ((limit,), "int32"),
            ((1,), "int32"),
        ],
        numbers={
            "mean": (0.125, -0.0625, -0.25, -0.5),
            "std": (0.25, 0.5, 0.25, 0.5),
            "calibration": (-0.5, 1.25, 0.25),
            "score_threshold": 0.3,
            "iou": 0.4,
            "height": 300,
            "width": 400,
        },
    )


def _regions(generator: np.random.Generator, count: int, extent: int) -> Array:
    corners = generator.uniform(-0.2 * extent, 0.8 * extent, (count, 2))
    sides = generator.uniform(1, 0.6 * extent, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def _roi_max_pool(generator: np.random.Generator, scale: int) -> Call:
    features = generator.standard_normal((2, 9 * scale, 12 * scale, 8 * scale))
    boxes = _regions(generator, 6 * scale, 150 * scale)
    rois = np.concatenate([generator.integers(0, 2, (len(boxes), 1)), boxes], axis=1)
    return Call(
        op=ROI_MAX_POOL,
        inputs=[features.astype(np.float32), rois.astype(np.float32)],
        outputs=[((len(rois), 7, 7, 8 * scale), "float32")],
        numbers={"scale": 1 / 16},
    )


def _upsample_map(generator: np.random.Generator, scale: int) -> Call:
    maps, second = generator.standard_normal((2, 2, 3 * scale, 10, 14)).astype(np.float32)
    return Call(
        op=UPSAMPLE_MAP,
        inputs=[maps, second],
        outputs=[((2, 3 * scale, 20, 28), "float32")],
        tolerance=1e-4,  # 2e-5 of the largest value
    )


CASES: dict[str, Callable[[np.random.Generator, int], Call]] = {
    "resize": _resize,
    "place": _place,
    "select_top_k": _select,
    "gather_windows": _gather,
    "gather_windows of vectors": _gather_vectors,
    "mask_boxes": _mask_boxes,
    "nms": _nms,
    "take_boxes": _take,
    "decode_boxes": _decode,
    "finish": _finish,
    "roi_max_pool": _roi_max_pool,
    "upsample_map": _upsample_map,
}
"""From a generator and a size, 1 for the interpreter and more for a GPU, to a call."""
