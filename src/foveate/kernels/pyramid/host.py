# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory.

NOTE: Levels are rounded to 8 bits before they are normalised. Resampling 8-bit images is several
times faster than resampling floats, and the networks are trained on levels that were made so.
"""

from __future__ import annotations

import cv2
import numpy as np

from foveate.arrays import Float32Array, UInt8Array
from foveate.images.resampling import resample


def resize(image: UInt8Array, resized: UInt8Array) -> None:
    """Resize a (H, W, 3) image to the size of ``resized``; see ``resample``."""
    height, width = resized.shape[:2]
    np.copyto(resized, resample(image, height, width))


def place(
    image: UInt8Array,
    canvas: Float32Array,
    *,
    height: int,
    width: int,
    border: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    fill: int,
) -> None:
    """Resize an image, normalise it and lay it on a canvas whose rest is ``fill``.

    Args:
        image: (H, W, 3) RGB.
        canvas: (1, 3, Hc, Wc), written in full: ``(value - mean) / std``, RGB.
        height: Rows of the image on the canvas.
        width: Columns of the image on the canvas.
        border: Row and column of the image's first pixel on the canvas.
        mean: Per channel, 0 to 255.
        std: Per channel.
        fill: Value of the rest before normalisation.
    """
    level = resample(image, height, width)
    bottom, right = border + height, border + width
    for channel in range(3):
        plane = canvas[0, channel]
        table = _table(mean[channel], std[channel])
        plane[:border] = table[fill]
        plane[bottom:] = table[fill]
        plane[border:bottom, :border] = table[fill]
        plane[border:bottom, right:] = table[fill]
        # One look-up a pixel, written in place: OpenCV's fastest way from bytes to floats.
        target = plane[border:bottom, border:right]
        values = cv2.LUT(cv2.extractChannel(level, channel), table, dst=target)
        if values is not target:
            target[...] = values


def _table(mean: float, std: float) -> Float32Array:
    return ((np.arange(256) - mean) / std).astype(np.float32)
