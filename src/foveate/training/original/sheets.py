# SPDX-License-Identifier: Apache-2.0
"""Images of training samples with what a network makes of them."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from foveate.models.deepmask import DeepMask
from foveate.models.sharpmask import SharpMask
from foveate.training.original.window_batches import WindowBatch
from foveate.training.sampling import RegionSample

COLUMNS = 8


def window_sheet(network: DeepMask | SharpMask, batch: WindowBatch) -> NDArray[np.uint8]:
    """Draw windows with their labels in green and a network's answers in red.

    Masks are outlines; a score is a green or grey frame, and the probability as a number.

    Args:
        network: answers in the mode that it is in.
        batch: its first 16 windows are drawn.

    Returns:
        (H, W, 3) uint8 RGB, two rows of eight windows.
    """
    deepmask = network.deepmask if isinstance(network, SharpMask) else network
    shown = WindowBatch(
        head=batch.head,
        patches=batch.patches[: 2 * COLUMNS],
        labels=batch.labels[: 2 * COLUMNS],
    )
    patches, _ = shown.tensors(deepmask)
    with torch.inference_mode():
        answer = network.patch_masks if batch.head == "mask" else network.patch_scores
        logits = answer(patches).float().cpu().numpy()
    context = deepmask.context
    tiles = [
        _mask_tile(patch.copy(), label, logit, context)
        if batch.head == "mask"
        else _score_tile(patch.copy(), bool(label), float(logit))
        for patch, label, logit in zip(shown.patches, shown.labels, logits, strict=True)
    ]
    return _in_rows(tiles)


def _in_rows(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    width = min(COLUMNS, len(tiles))
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % width)
    rows = [np.concatenate(tiles[i : i + width], axis=1) for i in range(0, len(tiles), width)]
    return np.concatenate(rows)


def _mask_tile(
    tile: NDArray[np.uint8], label: NDArray[np.uint8], logit: NDArray[np.float32], context: int
) -> NDArray[np.uint8]:
    side = len(tile) - 2 * context
    for mask, colour in ((label, (0, 255, 0)), ((logit > 0).astype(np.uint8), (255, 0, 0))):
        window = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
        found, _ = cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, found, -1, colour, 1, offset=(context, context))
    return tile


def _score_tile(tile: NDArray[np.uint8], label: bool, logit: float) -> NDArray[np.uint8]:
    colour = (0, 255, 0) if label else (128, 128, 128)
    cv2.rectangle(tile, (0, 0), (len(tile) - 1, len(tile) - 1), colour, 3)
    text = f"{1 / (1 + np.exp(-logit)):.2f}"
    cv2.putText(tile, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 0, 0), 2)
    return tile


def region_sheet(sample: RegionSample, found: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw an image's regions.

    Foregrounds are green where the network names their class, red where it does not; backgrounds
    are grey, and red where the network sees an object.

    Args:
        sample: image and regions.
        found: (R,) classes by the network, 0 for background.

    Returns:
        (H, W, 3) uint8 RGB, the image's size.
    """
    sheet = sample.image.copy()
    # The head of the lowest threshold calls the most regions foreground; those are drawn on top.
    labels = sample.labels[0]
    for index in np.argsort(labels > 0, kind="stable"):
        right = (0, 255, 0) if labels[index] > 0 else (128, 128, 128)
        colour = right if labels[index] == found[index] else (255, 0, 0)
        x0, y0, x1, y1 = (int(value) for value in sample.boxes[index].round())
        cv2.rectangle(sheet, (x0, y0), (x1 - 1, y1 - 1), colour, 2 if labels[index] > 0 else 1)
    return sheet
