# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory."""

from math import log

import numpy as np

from foveate.arrays import Array, Float32Array, Int32Array, Int64Array
from foveate.kernels.nms.cpu import suppress

_TINY = 1e-7  # keeps the logit of a probability of 0 or 1 finite
_MAX_GROWTH = log(1000 / 16)  # logarithm of the largest factor by which a box may grow


def postprocess(
    probabilities: Float32Array,
    deltas: Float32Array,
    boxes: Float32Array,
    scores: Float32Array,
    keep: Int32Array,
    keep_count: Int32Array,
    detected_boxes: Float32Array,
    detected_scores: Float32Array,
    detected_labels: Int64Array,
    detected_rows: Int32Array,
    detected_count: Int32Array,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    calibration: tuple[float, float, float],
    score_threshold: float,
    iou: float,
    height: int,
    width: int,
) -> None:
    """Score every (proposal, class), regress its box, suppress per class, and keep the best N.

    Args:
        probabilities: Probabilities (R, C + 1), float32 or float16; column 0 is the background.
        deltas: Box deltas (R, C + 1, 4) of the same dtype; see :func:`decode_boxes`.
        boxes: Boxes (K, 4) xyxy of all proposals, in the image frame.
        scores: Objectness logits (K,) of all proposals.
        keep: Proposal of each row, (R,).
        keep_count: Number of rows that exist, (1,); they come first.
        detected_boxes: Boxes (N, 4) xyxy in the image frame, best first; zeros after the end.
        detected_scores: Calibrated scores (N,); zeros after the end.
        detected_labels: Classes (N,) from 0, without the background; -1 after the end.
        detected_rows: Proposal of each detection, (N,); -1 after the end.
        detected_count: Number of detections, (1,).
        mean: Mean of the deltas.
        std: Standard deviation of the deltas.
        calibration: Coefficients of :func:`calibrate`.
        score_threshold: Smallest calibrated score of a detection.
        iou: Largest intersection over union with a better box of the same class.
        height: Rows of the image.
        width: Columns of the image.
    """
    rows = keep[: int(keep_count[0])]
    calibrated = calibrate(probabilities[: len(rows), 1:], scores[rows], calibration)
    # Most candidates have lower scores, so that only a few boxes have to be decoded.
    row, label = np.nonzero(calibrated >= score_threshold)
    moves = deltas[: len(rows), 1:][row, label][:, None]
    moved = decode_boxes(boxes[rows[row]], moves, mean=mean, std=std, height=height, width=width)
    candidates, values = moved[:, 0], calibrated[row, label]
    best = suppress(candidates, values, label, iou, len(detected_boxes))
    _write(detected_boxes, candidates[best], 0)
    _write(detected_scores, values[best], 0)
    _write(detected_labels, label[best], -1)
    _write(detected_rows, rows[row[best]], -1)
    detected_count[0] = len(best)


def calibrate(
    probabilities: Float32Array, objectness: Float32Array, calibration: tuple[float, float, float]
) -> Float32Array:
    """Return ``sigmoid(c0 + c1 * logit(probability) + c2 * objectness)`` for (c0, c1, c2).

    Args:
        probabilities: Probabilities (R, C).
        objectness: Logits (R,).
        calibration: The three coefficients.
    """
    clipped = np.clip(probabilities.astype(np.float64), _TINY, 1 - _TINY)
    c0, c1, c2 = calibration
    # Beyond 500 the score is 0 or 1 in float32, and exp would overflow beyond 709.
    logit = c0 + c1 * np.log(clipped / (1 - clipped)) + c2 * objectness[:, None].astype(np.float64)
    scores: Float32Array = (1 / (1 + np.exp(-np.clip(logit, -500, 500)))).astype(np.float32)
    return scores


def decode_boxes(
    boxes: Float32Array,
    deltas: Float32Array,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    height: int,
    width: int,
) -> Float32Array:
    """Move and scale boxes by their regression, and clip them to the image.

    The parametrization is that of R-CNN (Girshick et al. 2014, appendix C).

    Args:
        boxes: Boxes (R, 4) xyxy.
        deltas: Deltas (R, C, 4): t_x, t_y in units of the box's width and height, t_w, t_h as
            logarithms of factors; each normalized as ``(t - mean) / std``.
        mean: Mean of the four deltas.
        std: Standard deviation of the four deltas.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        Boxes (R, C, 4) xyxy.
    """
    shift = deltas * np.array(std, np.float32) + np.array(mean, np.float32)
    sides = boxes[:, None, 2:] - boxes[:, None, :2]
    centers = boxes[:, None, :2] + 0.5 * sides + shift[..., :2] * sides
    half = 0.5 * sides * np.exp(np.minimum(shift[..., 2:], np.float32(_MAX_GROWTH)))
    decoded = np.concatenate([centers - half, centers + half], axis=-1)
    limits = np.array([width, height, width, height], np.float32)
    clipped: Float32Array = np.clip(decoded, np.float32(0), limits)
    return clipped


def _write(target: Array, values: Array, rest: int) -> None:
    target[: len(values)], target[len(values) :] = values, rest
