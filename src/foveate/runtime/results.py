# SPDX-License-Identifier: Apache-2.0
"""Copying results from the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.results.detections import Detections, Proposals
from foveate.results.masks import Masks

if TYPE_CHECKING:
    from foveate.arrays import Array, BoolArray, Float32Array, Int64Array
    from foveate.bundle import Manifest
    from foveate.runtime.devices import Buffer, Device
    from foveate.runtime.slot import Slot


def fetch_proposals(device: Device, manifest: Manifest, slot: Slot) -> Proposals:
    """Copy the proposals of a processed image to memory of their own.

    Windows whose mask has no foreground pixel are left out.
    """
    count, boxes, scores = _fetch(device, slot, slot.count, slot.boxes, slot.scores)
    rows = np.flatnonzero(_is_proposal(boxes, count))
    return Proposals(
        boxes=boxes[rows], scores=_sigmoid(scores[rows]), masks=_masks(device, manifest, slot, rows)
    )


def fetch_detections(device: Device, manifest: Manifest, slot: Slot) -> Detections:
    """Copy the detections of a processed image to memory of their own."""
    boxes, scores, labels, rows, count, *windows = _fetch(
        device, slot, *slot.detections, slot.boxes, slot.count
    )
    existing = slice(int(count[0]))
    indices: Int64Array = rows[existing].astype(np.int64)
    # Pipeline.propose leaves out windows without foreground, so that indices shift.
    ranks: Int64Array = np.cumsum(_is_proposal(*windows)) - 1
    return Detections(
        boxes=boxes[existing].copy(),
        scores=scores[existing].copy(),
        labels=labels[existing].copy(),
        class_names=manifest.class_names,
        masks=_masks(device, manifest, slot, indices),
        proposals=ranks[indices],
    )


def _is_proposal(boxes: Float32Array, count: Array) -> BoolArray:
    """Return for each window whether it exists and its mask has a foreground pixel."""
    is_one: BoolArray = (np.arange(len(boxes)) < count[0]) & (boxes[:, 2] > boxes[:, 0])
    return is_one


def _masks(device: Device, manifest: Manifest, slot: Slot, rows: Int64Array) -> Masks:
    """Fetch the logits of the windows that are in use, each window once."""
    # Several detections can come from one window: its logits, 100 kB, are copied only once.
    used, index = np.unique(rows, return_inverse=True)
    side = manifest.mask.size
    logits: Float32Array = np.empty((len(used), side, side), np.float32)
    for target, row in zip(logits, used.tolist(), strict=True):
        device.download(slot.logits.part(row, row + 1), target[None], slot.main)
    (windows,) = _fetch(device, slot, slot.windows)
    return Masks(
        logits,
        windows[used],
        index.reshape(-1).astype(np.int64),
        threshold=manifest.mask.threshold,
        height=slot.sizes.height,
        width=slot.sizes.width,
    )


def _fetch(device: Device, slot: Slot, *buffers: Buffer) -> list[Array]:
    arrays: list[Array] = [np.empty(buffer.shape, buffer.dtype) for buffer in buffers]
    for buffer, array in zip(buffers, arrays, strict=True):
        device.download(buffer, array, slot.main)
    slot.main.synchronize()
    return arrays


def _sigmoid(logits: Float32Array) -> Float32Array:
    # float64 and the limits avoid an overflow of exp for logits of untrained networks.
    wide = logits.astype(np.float64)
    probabilities: Float32Array = (1 / (1 + np.exp(-np.clip(wide, -500, 500)))).astype(np.float32)
    return probabilities
