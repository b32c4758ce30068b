# SPDX-License-Identifier: Apache-2.0
"""From the memory of the steps to results that own their memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as coco_mask

from foveate.results.detections import Detections, Findings, Proposals
from foveate.results.window_masks import WindowMasks

if TYPE_CHECKING:
    from foveate.arrays import Float32Array, Float64Array, Int64Array
    from foveate.bundle import Manifest
    from foveate.runtime.steps import Steps


def proposals_of(manifest: Manifest, steps: Steps) -> Proposals:
    """Return the proposals of a processed image, best first, in memory of their own.

    Windows whose mask has no foreground pixel are left out.
    """
    rows, scores = _proposals(steps)
    return Proposals(
        boxes=steps.proposing.found.array("boxes")[rows],
        scores=scores,
        masks=_masks(manifest, steps, rows),
    )


def detections_of(manifest: Manifest, steps: Steps) -> Detections:
    """Return the detections of a processed image, in memory of their own."""
    found = steps.classifying.found
    existing = slice(int(found.array("count")[0]))
    rows: Int64Array = found.array("rows")[existing].astype(np.int64)
    # Pipeline.propose leaves out windows without foreground, and sorts the others.
    proposals, _ = _proposals(steps)
    ranks = np.zeros(len(steps.proposing.found.array("boxes")), np.int64)
    ranks[proposals] = np.arange(len(proposals))
    return Detections(
        boxes=found.array("boxes")[existing].copy(),
        scores=found.array("scores")[existing].copy(),
        labels=found.array("labels")[existing].copy(),
        class_names=manifest.class_names,
        masks=_masks(manifest, steps, rows),
        proposals=ranks[rows],
    )


def findings_of(manifest: Manifest, steps: Steps) -> Findings:
    """Return the proposals and the detections of a processed image, in memory of their own."""
    proposals, detections = proposals_of(manifest, steps), detections_of(manifest, steps)
    shared = proposals.masks[detections.proposals]
    return Findings(proposals=proposals, detections=replace(detections, masks=shared))


def _proposals(steps: Steps) -> tuple[Int64Array, Float32Array]:
    """Return the windows whose masks have a foreground pixel, and their scores, best first.

    A score is the probability of an object that no better proposal shows: that of a suppressed
    proposal is multiplied by one minus the largest overlap with a better one that was kept (Bodla et
    al., "Soft-NMS", ICCV 2017, section 3, the linear form).
    """
    found = steps.proposing.found
    existing = slice(int(found.array("count")[0]))
    boxes, logits = found.array("boxes")[existing], found.array("scores")[existing]
    kept = found.array("keep")[: int(found.array("keep_count")[0])]
    rows: Int64Array = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    better = logits[kept] >= logits[rows, None]
    hidden = np.max(_overlaps(boxes[rows], boxes[kept]) * better, axis=1, initial=0)
    hidden[np.isin(rows, kept)] = 0
    scores = _sigmoid(logits[rows]) * (1 - hidden).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return rows[order], scores[order]


def _overlaps(boxes: Float32Array, others: Float32Array) -> Float64Array:
    """Return the intersections over union (N, M) of boxes (N, 4) and (M, 4) xyxy with areas."""
    shapes = [
        np.hstack([a[:, :2], a[:, 2:] - a[:, :2]]).astype(np.float64) for a in (boxes, others)
    ]
    found = coco_mask.iou(*shapes, [False] * len(others))
    return np.reshape(found, (len(boxes), len(others)))  # a list if there are no boxes


def _masks(manifest: Manifest, steps: Steps, rows: Int64Array) -> WindowMasks:
    # Several detections can come from one window: its logits, 100 kB, are copied only once.
    used, index = np.unique(rows, return_inverse=True)
    return WindowMasks(
        steps.masks.array[used].astype(np.float32, copy=False),
        steps.proposing.found.array("windows")[used],
        index.reshape(-1).astype(np.int64),
        threshold=manifest.mask.threshold,
        height=steps.sizes.height,
        width=steps.sizes.width,
    )


def _sigmoid(logits: Float32Array) -> Float32Array:
    # float64 and the limits avoid an overflow of exp for logits of untrained networks.
    wide = logits.astype(np.float64)
    probabilities: Float32Array = (1 / (1 + np.exp(-np.clip(wide, -500, 500)))).astype(np.float32)
    return probabilities
