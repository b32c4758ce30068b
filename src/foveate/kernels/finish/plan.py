# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from foveate.kernels.decode_boxes.plan import regression_numbers
from foveate.kernels.nms.plan import suppress
from foveate.kernels.plans import FLOAT, INT, MOST_CELLS, DeviceArray, Scratch, Steps, check_length


def finish(
    scratch: Scratch,
    probabilities: DeviceArray,
    deltas: DeviceArray,
    boxes: DeviceArray,
    scores: DeviceArray,
    kept: DeviceArray,
    kept_count: DeviceArray,
    found_boxes: DeviceArray,
    found_scores: DeviceArray,
    found_labels: DeviceArray,
    found_rows: DeviceArray,
    found_count: DeviceArray,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    calibration: tuple[float, float, float],
    score_threshold: float,
    iou: float,
    height: int,
    width: int,
) -> Steps:
    """Yield the scoring, the four launches of the suppression, and the gathering."""
    rows, classes = probabilities.shape[0], probabilities.shape[1] - 1
    check_length("finish", rows * classes, MOST_CELLS)
    candidate_boxes = scratch.empty((rows * classes, 4), FLOAT)
    candidate_scores = scratch.empty((rows * classes,), FLOAT)
    candidate_labels = scratch.empty((rows * classes,), INT)
    if rows * classes:
        yield (
            "finish_candidates",
            {
                "probabilities": probabilities,
                "deltas": deltas,
                "boxes": boxes,
                "scores": scores,
                "kept": kept,
                "kept_count": kept_count,
                "candidate_boxes": candidate_boxes,
                "candidate_scores": candidate_scores,
                "candidate_labels": candidate_labels,
                "rows": rows,
                "classes": classes,
                "capacity": boxes.shape[0],
                **regression_numbers(mean, std),
                **dict(zip(("bias", "slope", "weight"), calibration, strict=True)),
                "score_threshold": score_threshold,
                "height": height,
                "width": width,
            },
        )
    winners = scratch.empty(found_rows.shape, INT)
    classed = (candidate_boxes, candidate_scores, candidate_labels)
    yield from suppress(scratch, *classed, None, winners, found_count, iou=iou)
    if found_rows.shape[0]:
        yield (
            "finish_gather",
            {
                "winners": winners,
                "boxes": candidate_boxes,
                "scores": candidate_scores,
                "kept": kept,
                "found_boxes": found_boxes,
                "found_scores": found_scores,
                "found_labels": found_labels,
                "found_rows": found_rows,
                "limit": found_rows.shape[0],
                "classes": classes,
            },
        )
