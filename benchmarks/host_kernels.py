# SPDX-License-Identifier: Apache-2.0
"""The operations between the engines on the CPU: masks, suppression, gathering, pyramid.

    python benchmarks/host_kernels.py --json benchmarks/results/host_kernels.json

Versions of one operation run in turns in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from figures import Cell, Figure, Measurement, Result, begin, conditions, report
from foveate.kernels.crop_features.cpu import crop_features
from foveate.kernels.letterbox.cpu import letterbox, resize
from foveate.kernels.mask_boxes.cpu import mask_boxes
from foveate.kernels.nms.cpu import suppress
from foveate.kernels.select_top_k.cpu import select_top_k
from foveate.results.window_mask import Window, WindowMask
from foveate.results.window_masks import WindowMasks
from measuring import Seconds, in_turns, parser_of

Float32Array = NDArray[np.float32]
Versions = Mapping[str, Callable[[], object]]

TITLE = "Kernels on a CPU"
QUESTION = """\
How long the operations between the networks take on a CPU: masks, suppression, gathering and the pyramid, beside a dense
copy of as much memory where one bounds them. `python benchmarks/kernel_predictions.py
docs/reference/kernel-predictions.md` measures nothing: it counts bytes and operations, and [predicts
times](../docs/reference/kernel-predictions.md) for GPUs."""
HEIGHT, WIDTH, WINDOWS, SIDE = 3000, 4000, 100, 160


def main() -> None:
    """Measure and print."""
    arguments = parser_of(__doc__, rounds=15).parse_args()
    cases = {
        **box_cases(),
        **mask_cases(),
        **suppression_cases(),
        **selection_cases(),
        **copy_cases(),
    }
    before = begin(threads=cv2.getNumThreads(), pairs=arguments.rounds)
    measured = {name: in_turns(versions, arguments.rounds) for name, versions in cases.items()}
    measurement = Measurement(
        caption="Masks of 160x160 in an image of 4000x3000:",
        conditions=conditions(before, "numpy", "opencv-python-headless"),
        columns=("operation", "with", "time, ms"),
        rows=rows_of(measured),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def rows_of(measured: Mapping[str, Seconds]) -> tuple[tuple[Cell, ...], ...]:
    """Return a row per version of each operation."""
    return tuple(
        (name, version, Figure.of([1e3 * one for one in seconds]))
        for name, versions in measured.items()
        for version, seconds in versions.items()
    )


def blobs(generator: np.random.Generator) -> Float32Array:
    """Return logits (K, S, S) that are round with a ragged rim, as masks are."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    logits = np.empty((WINDOWS, SIDE, SIDE), np.float32)
    for out in logits:
        (cx, cy), (rx, ry) = generator.uniform(56, 104, 2), generator.uniform(32, 72, 2)
        noise = cv2.resize(generator.standard_normal((20, 20)).astype(np.float32), (SIDE, SIDE))
        out[...] = 6 * (1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) + noise
    return logits


def box_cases() -> dict[str, Versions]:
    """The windows of a photograph of 640x480 by level, as many as ``mini`` finds on one."""
    generator = np.random.default_rng(2)
    sides = np.repeat([80, 113.1, 160, 226, 320, 453.1, 640], [78, 46, 33, 30, 27, 19, 17])
    corners = generator.uniform(-0.3, 1, (len(sides), 2)) * (640, 480) - sides[:, None] / 2
    windows = np.column_stack([corners, sides, sides]).astype(np.float32)
    logits = np.resize(blobs(generator), (len(sides), SIDE, SIDE))
    count, boxes = np.array([len(sides)], np.int32), np.empty((len(sides), 4), np.float32)

    def from_pixels() -> None:
        size = {"image_height": 480, "image_width": 640}
        mask_boxes(logits, windows, count, boxes, threshold=-0.5, **size)

    def from_runs() -> None:
        for mask, window in zip(logits, windows.tolist(), strict=True):
            region = (0, 0, 640, 480)
            WindowMask(mask, Window.around(window), threshold=-0.5, region=region).box()

    return {
        f"boxes of {len(sides)} windows of a photograph of 640x480": {
            "pixels of small windows": from_pixels,
            "runs of every window": from_runs,
        }
    }


def mask_cases() -> dict[str, Versions]:
    """100 windows with sides log-uniform in 64 to 1500 px, and 100 as large as the image."""
    generator = np.random.default_rng(0)
    logits = blobs(generator)
    side = np.exp(generator.uniform(np.log(64), np.log(1500), WINDOWS))
    left = generator.uniform(-0.2 * side, WIDTH - 0.8 * side)
    top = generator.uniform(-0.2 * side, HEIGHT - 0.8 * side)
    mixed = np.stack([left, top, side, side], axis=1).astype(np.float32)
    full = np.tile(np.array([[0, 0, WIDTH, HEIGHT]], np.float32), (WINDOWS, 1))
    return {**_masks("mixed windows", logits, mixed), **_masks("full windows", logits, full)}


def _masks(name: str, logits: Float32Array, geometry: Float32Array) -> dict[str, Versions]:
    masks = WindowMasks(
        logits, geometry, np.arange(WINDOWS), threshold=-0.5, height=HEIGHT, width=WIDTH
    )

    return {
        f"boxes, {name}": {"numpy": masks.boxes},
        f"cut to their boxes, {name}": {
            "numpy": lambda: [masks.crop(i)[1] for i in range(WINDOWS)]
        },
        f"an array each, {name}": {"numpy": lambda: [mask.shape for mask in masks]},
        f"one array of all, {name}": {"numpy": lambda: np.asarray(masks)},
        f"run-length codes, {name}": {"numpy": masks.rle},
    }


def suppression_cases() -> dict[str, Versions]:
    """1,000 random boxes, of which few or nearly all survive."""
    generator = np.random.default_rng(1)
    corners = generator.uniform(0, 600, (1000, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(20, 200, (1000, 2))], axis=1)
    boxes, scores = boxes.astype(np.float32), generator.standard_normal(1000).astype(np.float32)

    return {
        f"suppression of 1,000 boxes at {iou}": {
            "numpy": partial(suppress, boxes, scores, None, iou, 1000)
        }
        for iou in (0.3, 0.5, 0.7)
    }


def selection_cases() -> dict[str, Versions]:
    """100 of the windows that eight levels of a 640x480 image have, with smooth random scores."""
    generator = np.random.default_rng(4)
    grids: list[Float32Array] = []
    factors = []
    for rows, columns in (
        (7, 9),
        (9, 11),
        (12, 16),
        (16, 21),
        (23, 30),
        (31, 41),
        (44, 58),
        (61, 81),
    ):
        noise = generator.standard_normal((rows, columns)).astype(np.float32)
        grids.append(cv2.GaussianBlur(noise, (5, 5), 0)[None, None].astype(np.float32))
        factors.append((640 / (16 * columns + 144), 480 / (16 * rows + 144)))
    indices, geometry = np.empty((100, 3), np.int32), np.empty((100, 4), np.float32)
    scores, count = np.empty(100, np.float32), np.empty(1, np.int32)

    def run() -> None:
        select_top_k(
            grids,
            indices,
            geometry,
            scores,
            count,
            factors=factors,
            size=160,
            stride=16,
            padding=16,
            window_nms_iou=0.8,
            top_k=100,
        )

    windows = sum(grid.size for grid in grids)
    return {f"selection of 100 of {windows:,} windows": {"numpy": run}}


def copy_cases() -> dict[str, Versions]:
    """The patches of 100 windows, and one image on the canvas of a level."""
    generator = np.random.default_rng(3)
    maps = [generator.standard_normal((1, 16, 140, 180)).astype(np.float32)]
    patches = np.empty((WINDOWS, 16, 40, 40), np.float32)
    indices = np.zeros((WINDOWS, 3), np.int32)
    indices[:, 1:] = generator.integers(0, 25, (WINDOWS, 2))
    photograph = generator.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    working = np.empty((768, 1024, 3), np.uint8)
    canvas = np.empty((1, 3, 928, 1184), np.float32)
    place = partial(
        letterbox,
        working,
        [canvas],
        sizes=[(768, 1024)],
        border=80,
        mean=(123.0, 116.0, 103.0),
        std=(58.0, 57.0, 57.0),
        fill=104,
    )
    patches_of = patches.copy()
    return {
        "patches of 100 windows": {
            "numpy": lambda: crop_features(maps, indices, patches, step=4),
            "one dense copy of as much": lambda: np.copyto(patches, patches_of),
        },
        "resizing 4000 x 3000 to 1024": {"OpenCV": lambda: resize(photograph, working)},
        "placing 1024 x 768": {"OpenCV": place, "one dense copy of as much": canvas.copy},
    }


if __name__ == "__main__":
    main()
