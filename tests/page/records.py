# SPDX-License-Identifier: Apache-2.0
"""Records of images with rectangles, whose masks are their windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from foveate.arrays import UInt8Array
from foveate.bundle import Bundle, Manifest, read_bundle
from foveate.page import page_record
from foveate.results.detections import Detections, Findings, Proposals
from foveate.results.window_masks import WindowMasks

WIDTH, HEIGHT = 640, 480
# Side of the windows at the scale 1, which is the sixth level of the bundle.
SIDE = 160
# x, y and side of each window; the second one overlaps the first one by 6/10, the third is apart.
WINDOWS = ((40, 60, 160), (80, 60, 160), (400, 200, 80), (300, 20, 320))
PROPOSAL_SCORES = (0.9, 0.7, 0.6, 0.2)
ANIMAL, FOOD, PERSON = 1, 4, 9


@cache
def manifest() -> Manifest:
    def of(bundle: Bundle) -> Manifest:
        return bundle.manifest

    return read_bundle("mini", of)


def findings(
    windows: Sequence[tuple[float, float, float]] = WINDOWS,
    scores: Sequence[float] = PROPOSAL_SCORES,
) -> Findings:
    """Proposals of windows, and detections of the first three."""
    geometry = np.array([(x, y, side, side) for x, y, side in windows], np.float32)
    count = len(geometry)
    masks = WindowMasks(
        np.ones((1, 4, 4), np.float32).repeat(count, 0),
        geometry,
        np.arange(count),
        threshold=0.0,
        height=HEIGHT,
        width=WIDTH,
    )
    ranks = np.array([0, 1, 2])
    return Findings(
        proposals=Proposals(boxes=masks.boxes(), scores=np.array(scores, np.float32), masks=masks),
        detections=Detections(
            boxes=masks.boxes()[ranks],
            scores=np.array([0.8, 0.5, 0.3], np.float32),
            labels=np.array([ANIMAL, PERSON, FOOD]),
            class_names=manifest().class_names,
            masks=masks[ranks],
            proposals=ranks,
        ),
    )


def picture(tone: int = 90) -> UInt8Array:
    image = np.full((HEIGHT, WIDTH, 3), tone, np.uint8)
    image[:, :, 0] = np.arange(WIDTH) // 3
    return image


def record(name: str, *, tone: int = 90, image: bool = True) -> dict[str, Any]:
    stages = {"other": 2.0, "propose": 60.0, "features": 10.0, "refine": 20.0, "classify": 8.0}
    pixels = picture(tone) if image else None
    return page_record(name, findings(), manifest(), image=pixels, stages=stages)
