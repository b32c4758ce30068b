# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory."""

import cv2
import numpy as np

from foveate.arrays import Float32Array, UInt8Array
from foveate.images.resampling import resample


def resize(image: UInt8Array, resized: UInt8Array) -> None:
    """Resize an (H, W, 3) image to the size of ``resized``; see ``resample``."""
    height, width = resized.shape[:2]
    np.copyto(resized, resample(image, height, width))


def letterbox(
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
    """Resize an image, normalize it, and place it on a canvas that is otherwise ``fill``.

    Args:
        image: Image (H, W, 3) uint8 RGB.
        canvas: Canvas (1, 3, Hc, Wc) RGB, written in full: ``(value - mean) / std``.
        height: Rows of the image on the canvas.
        width: Columns of the image on the canvas.
        border: Row and column of the image's first pixel on the canvas.
        mean: Mean per channel, 0 to 255.
        std: Standard deviation per channel.
        fill: Value around the image before normalization, 0 to 255.
    """
    # Levels are rounded to 8 bits before they are normalized: resampling bytes is several times
    # faster than resampling floats, and the networks are trained on such levels.
    level = resample(image, height, width)
    bottom, right = border + height, border + width
    for channel, table in enumerate(normalized_bytes(mean, std)):
        plane = canvas[0, channel]
        plane[:border] = table[fill]
        plane[bottom:] = table[fill]
        plane[border:bottom, :border] = table[fill]
        plane[border:bottom, right:] = table[fill]
        # One look-up per pixel, written in place, is OpenCV's fastest way from bytes to floats.
        target = plane[border:bottom, border:right]
        values = cv2.LUT(cv2.extractChannel(level, channel), table, dst=target)
        if values is not target:
            target[...] = values


def normalized_bytes(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Float32Array:
    """Return the normalized value of each byte per channel, (3, 256)."""
    values = (np.arange(256) - np.array(mean)[:, None]) / np.array(std)[:, None]
    table: Float32Array = values.astype(np.float32)
    return table
