# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version, one candidate at a time."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np

from foveate.arrays import Float32Array
from foveate.kernels.decode_boxes.reference import decode_box
from foveate.kernels.nms.reference import nms

Detection = tuple[tuple[float, float, float, float], float, int, int]


def finish(
    probabilities: Float32Array,
    deltas: Float32Array,
    boxes: Float32Array,
    scores: Float32Array,
    kept: Sequence[int],
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
    """Return (box, score, label, proposal) of the detections, best first; see the host version."""
    candidates: list[Detection] = []
    for r, proposal in enumerate(kept):
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
