# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Array, Float32Array, Int32Array, Int64Array
from foveate.kernels.decode_boxes.host import decode_boxes
from foveate.kernels.nms.host import suppress

_TINY = 1e-7  # keeps the logit of a probability of 0 or 1 finite


def finish(
    probabilities: Float32Array,
    deltas: Float32Array,
    boxes: Float32Array,
    scores: Float32Array,
    kept: Int32Array,
    kept_count: Int32Array,
    found_boxes: Float32Array,
    found_scores: Float32Array,
    found_labels: Int64Array,
    found_rows: Int32Array,
    found_count: Int32Array,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    calibration: tuple[float, float, float],
    score_threshold: float,
    iou: float,
    height: int,
    width: int,
) -> None:
    """Score every (proposal, class), regress its box, suppress a class at a time, keep the best N.

    Args:
        probabilities: (R, C + 1); column 0 is the background.
        deltas: (R, C + 1, 4); see ``decode_boxes``.
        boxes: (K, 4) xyxy of all proposals, in the image frame.
        scores: (K,): objectness logits of all proposals.
        kept: (R,): proposal of each row.
        kept_count: (1,): only the first rows exist.
        found_boxes: (N, 4) xyxy in the image frame, best first; zeros after the end.
        found_scores: (N,) calibrated; zeros after the end.
        found_labels: (N,): class from 0, without the background; -1 after the end.
        found_rows: (N,): proposal of each detection; -1 after the end.
        found_count: (1,).
        mean: Of the deltas.
        std: Of the deltas.
        calibration: See :func:`calibrate`.
        score_threshold: Smallest calibrated score of a detection.
        iou: Largest intersection over union with a better box of the same class.
        height: Rows of the image.
        width: Columns of the image.
    """
    rows = kept[: int(kept_count[0])]
    calibrated = calibrate(probabilities[: len(rows), 1:], scores[rows], calibration)
    row, label = np.nonzero(calibrated >= score_threshold)
    moves = deltas[: len(rows), 1:][row, label][:, None]
    moved = decode_boxes(boxes[rows[row]], moves, mean=mean, std=std, height=height, width=width)
    candidates, values = moved[:, 0], calibrated[row, label]
    best = suppress(candidates, values, label, iou, len(found_boxes))
    _write(found_boxes, candidates[best], 0)
    _write(found_scores, values[best], 0)
    _write(found_labels, label[best], -1)
    _write(found_rows, rows[row[best]], -1)
    found_count[0] = len(best)


def calibrate(
    probabilities: Float32Array, objectness: Float32Array, calibration: tuple[float, float, float]
) -> Float32Array:
    """Return ``sigmoid(c0 + c1 * logit(probability) + c2 * objectness)`` for (c0, c1, c2).

    Args:
        probabilities: (R, C).
        objectness: (R,) logits.
        calibration: The three coefficients.
    """
    clipped = np.clip(probabilities.astype(np.float64), _TINY, 1 - _TINY)
    c0, c1, c2 = calibration
    logit = c0 + c1 * np.log(clipped / (1 - clipped)) + c2 * objectness[:, None].astype(np.float64)
    scores: Float32Array = (1 / (1 + np.exp(-np.clip(logit, -500, 500)))).astype(np.float32)
    return scores


def _write(target: Array, values: Array, rest: int) -> None:
    target[: len(values)], target[len(values) :] = values, rest
