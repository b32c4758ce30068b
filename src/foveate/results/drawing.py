# SPDX-License-Identifier: Apache-2.0
"""Overlays for people: filled masks, crisp outlines, labels that do not cover each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import numpy as np

from foveate.errors import InputError
from foveate.images.reading import as_image
from foveate.results.labels import LabelPainter
from foveate.results.palette import colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.arrays import Array, BoolArray, Float32Array, UInt8Array
    from foveate.results.masks import Masks

_OPACITY = 0.42
_STRIP = 256  # rows that are tinted at a time


def draw(
    image: Array | str | os.PathLike[str], boxes: Float32Array, masks: Masks, texts: Sequence[str]
) -> UInt8Array:
    """Draw objects on a copy of an image.

    Args:
        image: A file, or (H, W, 3) uint8 RGB.
        boxes: (N, 4) xyxy; a label is put near its box.
        masks: N masks of the same image.
        texts: N labels.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = as_image(image).copy()
    height, width = canvas.shape[:2]
    if masks.shape[1:] != (height, width):
        raise InputError(
            f"the image is {width} x {height}, the objects are of one of "
            f"{masks.shape[2]} x {masks.shape[1]}",
            remedy="draw on the image that was searched",
        )
    tight = masks.boxes()
    areas = (tight[:, 2] - tight[:, 0]) * (tight[:, 3] - tight[:, 1])
    # The largest first, so that a small object in front of a large one stays visible. One mask is
    # rasterised at a time: on a large photograph all of them would fill the memory.
    for index in np.argsort(-areas, kind="stable").tolist():
        crop = masks.crop(index)
        _fill(canvas, *crop, colour(index))
        _outline(canvas, *crop, colour(index))
    painter = LabelPainter(canvas)
    for index, text in enumerate(texts):  # the best first: they get the best places
        painter.paint(text, tuple(boxes[index].tolist()), colour(index))
    return canvas


def _fill(
    canvas: UInt8Array, mask: BoolArray, top: int, left: int, tint: tuple[int, int, int]
) -> None:
    table = np.empty((1, 256, 3), np.uint8)
    for channel in range(3):
        mixed = np.arange(256) * (1 - _OPACITY) + tint[channel] * _OPACITY
        table[0, :, channel] = np.round(mixed)
    for start in range(0, len(mask), _STRIP):
        part = mask[start : start + _STRIP]
        row = top + start
        region = canvas[row : row + len(part), left : left + mask.shape[1]]
        np.copyto(region, cv2.LUT(np.ascontiguousarray(region), table), where=part[..., None])


def _outline(
    canvas: UInt8Array, mask: BoolArray, top: int, left: int, tint: tuple[int, int, int]
) -> None:
    # A frame of zeros lets OpenCV close outlines that touch the crop.
    framed = np.pad(mask.view(np.uint8), 1)
    outlines, _ = cv2.findContours(framed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    place = (left - 1, top - 1)
    thickness = max(1, round(max(canvas.shape[:2]) / 420))
    bright = tuple(int(value + 0.35 * (255 - value)) for value in tint)
    dark = tuple(int(0.3 * value) for value in tint)
    for tone, width in ((dark, thickness + 2), (bright, thickness)):
        cv2.drawContours(canvas, outlines, -1, tone, width, cv2.LINE_AA, offset=place)
