# SPDX-License-Identifier: Apache-2.0
"""Which detection of one run is which of the other?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foveate.arrays import BoolArray
from foveate.results.detections import Detections, Proposals


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same detection in both runs.

    Attributes:
        box_error: largest difference of a coordinate, in pixels.
        mask_iou: intersection over union of the masks, 0 to 1; 1 for two empty ones.
        score_error: absolute difference of the scores.
    """

    box_error: float
    mask_iou: float
    score_error: float


@dataclass(frozen=True, kw_only=True)
class Matched:
    """The detections of an image: how many each run has, and those that both have."""

    expected: int
    found: int
    pairs: tuple[Pair, ...]


def match(expected: Detections | Proposals, found: Detections | Proposals) -> Matched:
    """Pair results of one class with the nearest free boxes, best score first.

    Args:
        expected: of the reference.
        found: of the same image.
    """
    labels = [getattr(one, "labels", np.zeros(len(one), np.int64)) for one in (expected, found)]
    free = np.ones(len(found), bool)
    pairs = []
    for index in np.argsort(-expected.scores, kind="stable"):
        choice = np.flatnonzero(free & (labels[1] == labels[0][index]))
        if not choice.size:
            continue
        errors = np.abs(found.boxes[choice] - expected.boxes[index]).max(axis=1)
        other = int(choice[errors.argmin()])
        free[other] = False
        pairs.append(
            Pair(
                box_error=float(errors.min()),
                mask_iou=_iou(expected.masks[int(index)], found.masks[other]),
                score_error=abs(float(expected.scores[index] - found.scores[other])),
            )
        )
    return Matched(expected=len(expected), found=len(found), pairs=tuple(pairs))


def _iou(one: BoolArray, other: BoolArray) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0
