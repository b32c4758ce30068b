# SPDX-License-Identifier: Apache-2.0
"""A call of every operation, in sizes from small to large, whose result the CPU determines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from foveate.arrays import Array
from foveate.kernels.crop_features.op import CROP_FEATURES
from foveate.kernels.letterbox.op import LETTERBOX, RESIZE
from foveate.kernels.mask_boxes.op import MASK_BOXES
from foveate.kernels.nms.op import GATHER_BOXES, NMS
from foveate.kernels.postprocess.op import POSTPROCESS
from foveate.kernels.select_top_k.op import SELECT_TOP_K
from foveate.kernels.take_masks.op import TAKE_MASKS
from foveate.selftest.running import Call

Make: TypeAlias = Callable[[np.random.Generator, int], Call]


def _boxes(generator: np.random.Generator, count: int, extent: int) -> Array:
    corners = generator.integers(0, extent, (count, 2))
    sides = generator.integers(0, extent, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def _resize(generator: np.random.Generator, scale: int) -> Call:
    image = generator.integers(0, 256, (20 * scale, 31 * scale, 3)).astype(np.uint8)
    size = (10 * scale, 15 * scale)
    return Call(op=RESIZE, inputs=[image], outputs=[((*size, 3), "uint8")])


def _letterbox(generator: np.random.Generator, scale: int) -> Call:
    image = generator.integers(0, 256, (20 * scale, 31 * scale, 3)).astype(np.uint8)
    std = (57.0, 58.0, 59.0)
    return Call(
        op=LETTERBOX,
        inputs=[image],
        outputs=[
            [
                ((1, 3, 32 * scale, 48 * scale), "float32"),
                ((1, 3, 16 * scale + 3, 24 * scale), "float32"),
            ]
        ],
        numbers={
            "sizes": [(26 * scale, 40 * scale), (10 * scale, 15 * scale)],
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
            "top_k": count - scale,
        },
    )


def _crop(generator: np.random.Generator, scale: int) -> Call:
    maps = [
        generator.standard_normal((1, 5 * scale, *side)).astype(np.float32)
        for side in ((10, 13), (20, 22))
    ]
    indices = np.array([[0, 1, 2], [1, 4, 3], [-1, 0, 0], [1, 0, 0]] * scale, np.int32)
    return Call(
        op=CROP_FEATURES,
        inputs=[maps, indices],
        outputs=[((len(indices), 5 * scale, 8, 8), "float32")],
        numbers={"step": 2},
    )


def _crop_vectors(generator: np.random.Generator, scale: int) -> Call:
    maps = [generator.standard_normal((1, 7 * scale, 4, 5)).astype(np.float32)]
    indices = np.array([[0, 1, 2], [-1, 0, 0], [0, 3, 4]], np.int32)
    return Call(
        op=CROP_FEATURES,
        inputs=[maps, indices],
        outputs=[((3, 7 * scale), "float32")],
        numbers={"step": 1},
    )


def _mask_boxes(generator: np.random.Generator, scale: int) -> Call:
    # Whole numbers and sides of a power of two: both ways of resampling are exact.
    count, size = 4 * scale, 16
    logits = generator.integers(-3, 2, (count, size, size)).astype(np.float32)
    corners = generator.integers(-30, 90, (count, 2))
    sides = generator.choice([16, 32, 64, 128], (count, 1))
    windows = np.concatenate([corners, sides, sides], axis=1).astype(np.float32)
    existing = np.array([count - 1], np.int32)
    return Call(
        op=MASK_BOXES,
        inputs=[logits, windows, existing],
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


def _gather_boxes(generator: np.random.Generator, scale: int) -> Call:
    boxes = _boxes(generator, 20 * scale, 300)
    keep = generator.integers(-1, 20 * scale, 30 * scale).astype(np.int32)
    return Call(
        op=GATHER_BOXES,
        inputs=[boxes, keep],
        outputs=[((len(keep), 4), "float32")],
        numbers={"horizontal": 0.7, "vertical": 1.3, "offset": 80.0},
    )


def _postprocess(generator: np.random.Generator, scale: int) -> Call:
    rows, classes, proposals = 12 * scale, 5, 20 * scale
    # Each class has a place of its own among the probabilities, so that no two scores are equal.
    order = generator.permutation(rows * (classes + 1)).reshape(rows, classes + 1)
    probabilities = ((order + 0.5) / order.size).astype(np.float32)
    boxes = _boxes(generator, proposals, 200)
    scores = generator.integers(-4, 5, proposals).astype(np.float32)
    keep = generator.permutation(proposals)[:rows].astype(np.int32)
    limit = 3 * rows
    # Multiples of 1/16, which move boxes exactly in both precisions, and sizes that stay.
    deltas = generator.integers(-4, 5, (rows, classes + 1, 4)).astype(np.float32) / 4
    deltas[:, :, 2:] = 1
    return Call(
        op=POSTPROCESS,
        inputs=[probabilities, deltas, boxes, scores, keep, np.array([rows - 2], np.int32)],
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


def _take_masks(generator: np.random.Generator, scale: int) -> Call:
    count, size = 6 * scale, 20
    logits = generator.standard_normal((count, size, size)).astype(np.float32)
    rows = generator.integers(0, count, 5 * scale).astype(np.int32)
    return Call(
        op=TAKE_MASKS,
        inputs=[logits, rows, np.array([3 * scale], np.int32)],
        outputs=[(logits.shape, "float32")],
    )


def _take_first_masks(generator: np.random.Generator, scale: int) -> Call:
    logits = generator.standard_normal((6 * scale, 9, 9)).astype(np.float16)
    return Call(
        op=TAKE_MASKS,
        inputs=[logits, None, np.array([4 * scale], np.int32)],
        outputs=[(logits.shape, "float16")],
    )


def halved(make: Make, *places: int) -> Make:
    """Return a case with half precision in the inputs and outputs that are numbered together."""

    def halve(generator: np.random.Generator, scale: int) -> Call:
        call = make(generator, scale)
        inputs, outputs = list(call.inputs), list(call.outputs)
        for place in places:
            if place < len(inputs):
                given = inputs[place]
                assert given is not None
                inputs[place] = (
                    given.astype(np.float16)
                    if isinstance(given, np.ndarray)
                    else [item.astype(np.float16) for item in given]
                )
            else:
                written = outputs[place - len(inputs)]
                outputs[place - len(inputs)] = (
                    [(shape, "float16") for shape, _ in written]
                    if isinstance(written, list)
                    else (written[0], "float16")
                )
        return replace(call, inputs=inputs, outputs=outputs)

    return halve


CASES: dict[str, Make] = {
    "resize": _resize,
    "letterbox": _letterbox,
    "select_top_k": _select,
    "crop_features": _crop,
    "crop_features of vectors": _crop_vectors,
    "mask_boxes": _mask_boxes,
    "nms": _nms,
    "gather_boxes": _gather_boxes,
    "postprocess": _postprocess,
    "letterbox in half precision": halved(_letterbox, 1),
    "select_top_k in half precision": halved(_select, 0),
    "crop_features in half precision": halved(_crop, 0, 2),
    "crop_features of vectors in half precision": halved(_crop_vectors, 0, 2),
    "mask_boxes in half precision": halved(_mask_boxes, 0),
    "postprocess in half precision": halved(_postprocess, 0, 1),
    "take_masks": _take_masks,
    "take_masks of the first windows": _take_first_masks,
}
"""Functions that make a call from a generator and a size; 1 is small, and 8 is large."""
