# SPDX-License-Identifier: Apache-2.0
"""From class probabilities and box deltas to detections."""

import numpy as np

from foveate.kernels.nms.op import LARGEST_ORDER, suppress
from foveate.kernels.op import (
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    ceil_div,
    float64,
    int32,
    require_at_most,
)
from foveate.kernels.postprocess import cpu

_THREADS = 128


def launches(
    memory: Memory,
    probabilities: DeviceArray,
    deltas: DeviceArray,
    boxes: DeviceArray,
    scores: DeviceArray,
    keep: DeviceArray,
    keep_count: DeviceArray,
    detected_boxes: DeviceArray,
    detected_scores: DeviceArray,
    detected_labels: DeviceArray,
    detected_rows: DeviceArray,
    detected_count: DeviceArray,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    calibration: tuple[float, float, float],
    score_threshold: float,
    iou: float,
    height: int,
    width: int,
) -> Launches:
    """Yield scoring, the launches of the suppression, and gathering; see :func:`cpu.postprocess`."""
    rows, classes = probabilities.shape[0], probabilities.shape[1] - 1
    items, limit = rows * classes, detected_rows.shape[0]
    require_at_most(LARGEST_ORDER, items, "candidates, which are proposals times classes")
    candidates = (
        memory.empty((items, 4), np.float32),
        memory.empty((items,), np.float32),
        memory.empty((items,), np.int32),  # labels
    )
    if items:
        yield Launch(
            "foveate_postprocess_candidates",
            grid=ceil_div(items, _THREADS),
            block=_THREADS,
            args=(
                *(probabilities, deltas, boxes, scores, keep, keep_count, *candidates),
                *int32(rows, classes, boxes.shape[0]),
                *float64(*mean, *std, *calibration),
                *(np.float32(score_threshold), *int32(height, width)),
            ),
        )
    # Candidates below the threshold have boxes without area, which suppression never keeps. So all
    # candidates exist, and no count has to be computed on the device.
    winners = memory.empty((limit,), np.int32)
    yield from suppress(memory, *candidates, None, winners, detected_count, iou=iou)
    if limit:
        detections = (detected_boxes, detected_scores, detected_labels, detected_rows)
        yield Launch(
            "foveate_postprocess_gather",
            grid=ceil_div(limit, _THREADS),
            block=_THREADS,
            args=(winners, *candidates[:2], keep, *detections, *int32(limit, classes)),
        )


POSTPROCESS = Op(
    "postprocess",
    cpu=cpu.postprocess,
    outputs=(
        "detected_boxes",
        "detected_scores",
        "detected_labels",
        "detected_rows",
        "detected_count",
    ),
    source="postprocess/postprocess.cuh",
    launches=launches,
)
