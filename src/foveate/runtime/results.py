# SPDX-License-Identifier: Apache-2.0
"""Fetching what was found from the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.results.detections import Detections, Proposals
from foveate.results.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foveate.arrays import Array, BoolArray, Float32Array, Int64Array
    from foveate.runtime.devices import Buffer, Device
    from foveate.runtime.frame import Frame
    from foveate.runtime.settings import Settings


def fetch_proposals(device: Device, frame: Frame, settings: Settings) -> Proposals:
    """Copy the proposals of an image that is done to memory of their own.

    Windows without a foreground pixel are left out.
    """
    count, boxes, scores = _fetch(
        device, frame, {"count": frame.count, "boxes": frame.boxes, "scores": frame.scores}
    )
    rows = np.flatnonzero(_seen(boxes, count))
    return Proposals(
        boxes=boxes[rows],
        scores=_sigmoid(scores[rows]),
        masks=_masks(device, frame, settings, rows),
    )


def fetch_detections(device: Device, frame: Frame, settings: Settings) -> Detections:
    """Copy the detections of an image that is done to memory of their own."""
    windows = {"windows": frame.boxes, "proposed": frame.count}
    boxes, scores, labels, rows, count, *proposed = _fetch(device, frame, frame.found() | windows)
    found = slice(int(count[0]))
    windows_found: Int64Array = rows[found].astype(np.int64)
    ranks: Int64Array = np.cumsum(_seen(*proposed)) - 1
    return Detections(
        boxes=boxes[found].copy(),
        scores=scores[found].copy(),
        labels=labels[found].copy(),
        class_names=settings.manifest.class_names,
        masks=_masks(device, frame, settings, windows_found),
        proposals=ranks[windows_found],
    )


def _seen(boxes: Float32Array, count: Array) -> BoolArray:
    """Say of each window whether it is a proposal: it exists and has a foreground pixel."""
    seen: BoolArray = (np.arange(len(boxes)) < count[0]) & (boxes[:, 2] > boxes[:, 0])
    return seen


def _masks(device: Device, frame: Frame, settings: Settings, rows: Int64Array) -> Masks:
    """Fetch the logits of the windows that are in use, each once."""
    used, index = np.unique(rows, return_inverse=True)
    side = settings.manifest.mask.size
    logits: Float32Array = np.empty((len(used), side, side), np.float32)
    for target, row in zip(logits, used.tolist(), strict=True):
        device.download(frame.logits.part(row, row + 1), target[None], frame.slot.main)
    (geometry,) = _fetch(device, frame, {"geometry": frame.geometry})
    return Masks(
        logits,
        geometry[used],
        index.reshape(-1).astype(np.int64),
        threshold=settings.manifest.mask.threshold,
        height=frame.plan.height,
        width=frame.plan.width,
    )


def _fetch(device: Device, frame: Frame, buffers: Mapping[str, Buffer]) -> list[Array]:
    arrays: list[Array] = [np.empty(buffer.shape, buffer.dtype) for buffer in buffers.values()]
    for buffer, array in zip(buffers.values(), arrays, strict=True):
        device.download(buffer, array, frame.slot.main)
    frame.slot.main.synchronize()
    return arrays


def _sigmoid(logits: Float32Array) -> Float32Array:
    wide = logits.astype(np.float64)
    probabilities: Float32Array = (1 / (1 + np.exp(-np.clip(wide, -500, 500)))).astype(np.float32)
    return probabilities
