# SPDX-License-Identifier: Apache-2.0
"""Run paths between the networks under callgrind: ``python -m tests.budgets.hot_paths LIBRARY``.

Callgrind writes one file per path, which names it. Outside of the paths it counts nothing, which is
ten times as fast.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from foveate.bench.percentiles import distribution
from foveate.kernels.crop_features.cpu import crop_features
from foveate.kernels.nms.cpu import suppress
from foveate.kernels.postprocess.cpu import postprocess
from foveate.results.window_mask import Window, WindowMask, encode_runs, window_box

IMAGE = (0, 0, 640, 480)
# Numbers that Python, NumPy and OpenCV compute in their first calls are kept for the next ones.
WARM_UP = 3


def paths() -> dict[str, Callable[[], object]]:
    """Return functions without arguments by name."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :160]
    logits = (60 - np.hypot(rows - 75, columns - 90) + random.normal(0, 3, (160, 160))).astype("f4")
    window = Window(left=120, top=80, width=320, height=320)
    mask = WindowMask(logits, window, threshold=0.0, region=IMAGE)
    runs = (mask.columns, mask.starts, mask.ends)
    boxes = boxes_of(random, 500)
    scores = random.normal(0, 1, 500).astype("f4")
    maps = [random.normal(0, 1, (1, 32, 60, 80)).astype("f4")]
    cells = np.stack([np.zeros(100), random.integers(0, 20, 100), random.integers(0, 30, 100)], 1)
    crops = np.empty((100, 32, 10, 10), np.float32)
    return {
        "box of a mask": partial(window_box, logits, window, threshold=0.0, region=IMAGE),
        "runs of a mask": partial(WindowMask, logits, window, threshold=0.0, region=IMAGE),
        "run-length code of a mask": lambda: encode_runs(*runs, 480, 640),
        "crops of 100 windows": partial(crop_features, maps, cells.astype("i4"), crops, step=2),
        "suppression of 500 boxes": lambda: suppress(boxes, scores, None, 0.5, 100),
        "detections of 100 proposals": postprocessing(random),
        "percentiles of 1,000 times": partial(distribution, random.exponential(1, 1000).tolist()),
    }


def postprocessing(random: np.random.Generator) -> Callable[[], object]:
    found = [np.empty((100, *shape), dtype) for shape, dtype in (((4,), "f4"), ((), "f4"))]
    found += [np.empty(100, "i8"), np.empty(100, "i4"), np.empty(1, "i4")]
    return partial(
        postprocess,
        random.dirichlet(np.full(13, 0.2), 100).astype("f4"),
        random.normal(0, 1, (100, 13, 4)).astype("f4"),
        boxes_of(random, 100),
        random.normal(0, 1, 100).astype("f4"),
        np.arange(100, dtype="i4"),
        np.array([100], "i4"),
        *found,
        mean=(0.01, -0.01, 0.02, -0.02),
        std=(0.1, 0.1, 0.2, 0.2),
        calibration=(-0.16, 0.79, 0.44),
        score_threshold=0.25,
        iou=0.3,
        height=480,
        width=640,
    )


def boxes_of(random: np.random.Generator, count: int) -> np.ndarray:
    corners = random.uniform(0, 1, (count, 2)) * (600, 440)
    return np.concatenate([corners, corners + random.uniform(5, 200, (count, 2))], 1).astype("f4")


def main(library: str) -> int:
    requests = ctypes.CDLL(library)
    cv2.setNumThreads(1)
    for name, path in paths().items():
        for _ in range(WARM_UP):
            path()
        gc.collect()
        gc.disable()
        requests.counting_begin()
        path()
        requests.counting_end(name.encode())
        gc.enable()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
