# SPDX-License-Identifier: Apache-2.0
"""From class probabilities and box deltas to detections."""

import numpy as np

from foveate.kernels.nms.op import LARGEST_ORDER
from foveate.kernels.op import (
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    ceil_div,
    element,
    float64,
    int32,
    require_at_most,
)
from foveate.kernels.postprocess import cpu

_CLASS_THREADS, _THREADS = 256, 128


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
    """Yield the suppression of each class, and the best of all; see :func:`cpu.postprocess`."""
    assert probabilities.dtype == deltas.dtype, f"probabilities and deltas of {deltas.dtype}"
    rows, classes = probabilities.shape[0], probabilities.shape[1] - 1
    detections = detected_rows.shape[0]
    require_at_most(LARGEST_ORDER, rows, "proposals")
    # No more of a class can be among the detections.
    limit = min(rows, detections)
    class_scores = memory.empty((classes, rows), np.float32)
    order = memory.empty((classes, rows), np.int32)
    winners = memory.empty((classes, limit), np.int32)
    chosen = memory.empty((classes, limit, 4), np.float32)
    counts = memory.empty((classes,), np.int32)
    if classes:
        yield Launch(
            f"foveate_postprocess_classes_{element(probabilities)}",
            grid=classes,
            block=_CLASS_THREADS,
            args=(
                *(probabilities, deltas, boxes, scores, keep, keep_count),
                *(class_scores, order, winners, chosen, counts),
                *int32(rows, boxes.shape[0], limit),
                *float64(*mean, *std, *calibration, iou),
                *(np.float32(score_threshold), *int32(height, width)),
            ),
        )
    outputs = (detected_boxes, detected_scores, detected_labels, detected_rows, detected_count)
    yield Launch(
        "foveate_postprocess_detections",
        grid=max(ceil_div(max(classes * limit, detections), _THREADS), 1),
        block=_THREADS,
        args=(
            *(class_scores, winners, chosen, counts, keep, *outputs),
            *int32(classes, rows, limit, detections),
        ),
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
