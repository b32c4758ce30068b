# SPDX-License-Identifier: Apache-2.0
"""From the memory of the steps to results that own their memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from foveate.results.detections import Detections, Findings, Proposals
from foveate.results.window_masks import WindowMasks

if TYPE_CHECKING:
    from foveate.arrays import Float32Array, Int64Array
    from foveate.bundle import Manifest
    from foveate.runtime.steps import Steps


def proposals_of(manifest: Manifest, steps: Steps) -> Proposals:
    """Return the proposals of a processed image, best first, in memory of their own.

    Windows whose mask has no foreground pixel are left out.
    """
    found = steps.proposing.found
    rows = _proposals(steps)
    return Proposals(
        boxes=found.array("boxes")[rows],
        scores=_sigmoid(found.array("scores")[rows]),
        masks=_masks(manifest, steps, rows),
    )


def detections_of(manifest: Manifest, steps: Steps) -> Detections:
    """Return the detections of a processed image, in memory of their own."""
    found = steps.classifying.found
    existing = slice(int(found.array("count")[0]))
    rows: Int64Array = found.array("rows")[existing].astype(np.int64)
    # Pipeline.propose leaves out windows without foreground, and sorts the others.
    proposals = _proposals(steps)
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


def _proposals(steps: Steps) -> Int64Array:
    """Return the windows that exist and whose masks have a foreground pixel, best first."""
    found = steps.proposing.found
    existing = slice(int(found.array("count")[0]))
    boxes, scores = found.array("boxes")[existing], found.array("scores")[existing]
    rows: Int64Array = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    # The windows are in the order of the scores before refinement, which may change them.
    return rows[np.argsort(-scores[rows], kind="stable")]


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
