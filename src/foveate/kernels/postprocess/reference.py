# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version, one candidate at a time."""

from collections.abc import Sequence
from math import exp, log

import numpy as np

from foveate.arrays import Float32Array
from foveate.kernels.nms.reference import nms

Detection = tuple[tuple[float, float, float, float], float, int, int]


def postprocess(
    probabilities: Float32Array,
    deltas: Float32Array,
    boxes: Float32Array,
    scores: Float32Array,
    keep: Sequence[int],
    limit: int,
    *,
    mean: tuple[float, float, float, float],
    std: tuple[float, float, float, float],
    calibration: tuple[float, float, float],
    score_threshold: float,
    iou: float,
    height: int,
    width: int,
) -> list[Detection]:
    """Return (box, score, label, proposal) of the detections, best first; see the CPU version."""
    candidates: list[Detection] = []
    for r, proposal in enumerate(keep):
        for c in range(1, probabilities.shape[1]):
            p = min(max(float(probabilities[r, c]), 1e-7), 1 - 1e-7)
            logit = calibration[0] + calibration[1] * log(p / (1 - p))
            score = 1 / (1 + exp(-(logit + calibration[2] * float(scores[proposal]))))
            if np.float32(score) >= score_threshold:
                box = decode_box(
                    boxes[proposal].tolist(), deltas[r, c].tolist(), mean, std, height, width
                )
                candidates.append((box, float(np.float32(score)), c - 1, proposal))
    found = nms(
        np.array([c[0] for c in candidates], np.float32).reshape(-1, 4),
        np.array([c[1] for c in candidates], np.float32),
        np.array([c[2] for c in candidates]),
        iou,
        limit,
    )
    return [candidates[i] for i in found]


def decode_box(
    box: Sequence[float],
    delta: Sequence[float],
    mean: Sequence[float],
    std: Sequence[float],
    height: int,
    width: int,
) -> tuple[float, float, float, float]:
    """Return one regressed xyxy box, clipped to the image; see the CPU version."""
    t_x, t_y, t_w, t_h = (d * s + m for d, s, m in zip(delta, std, mean, strict=True))
    old_width, old_height = box[2] - box[0], box[3] - box[1]
    x = box[0] + old_width / 2 + t_x * old_width
    y = box[1] + old_height / 2 + t_y * old_height
    new_width = old_width * exp(min(t_w, log(1000 / 16)))
    new_height = old_height * exp(min(t_h, log(1000 / 16)))
    return (
        min(max(x - new_width / 2, 0.0), float(width)),
        min(max(y - new_height / 2, 0.0), float(height)),
        min(max(x + new_width / 2, 0.0), float(width)),
        min(max(y + new_height / 2, 0.0), float(height)),
    )
