# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory."""

from collections.abc import Sequence

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
    canvases: Sequence[Float32Array],
    *,
    sizes: Sequence[tuple[int, int]],
    border: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    fill: int,
) -> None:
    """Resize an image, normalize it, and place it on canvases that are otherwise ``fill``.

    Args:
        image: Image (H, W, 3) uint8 RGB.
        canvases: Canvases (1, 3, Hc, Wc) RGB, float32 or all of them float16, written in full:
            ``(value - mean) / std``.
        sizes: Rows and columns of the image on each canvas.
        border: Row and column of the image's first pixel on a canvas.
        mean: Mean per channel, 0 to 255.
        std: Standard deviation per channel.
        fill: Value around the image before normalization, 0 to 255.
    """
    tables = normalized_bytes(mean, std)
    for canvas, (height, width) in zip(canvases, sizes, strict=True):
        # Levels are rounded to 8 bits before they are normalized: resampling bytes is several times
        # faster than resampling floats, and the networks are trained on such levels.
        _place(resample(image, height, width), canvas[0], border, tables, fill)


def _place(
    level: UInt8Array, canvas: Float32Array, border: int, tables: Float32Array, fill: int
) -> None:
    """Write a resized image and all around it to a canvas (3, Hc, Wc)."""
    bottom, right = border + level.shape[0], border + level.shape[1]
    # OpenCV copies elements as bits: not all of its versions know float16.
    bits = np.dtype(f"i{canvas.itemsize}")
    for channel, table in enumerate(tables.astype(canvas.dtype)):
        plane = canvas[channel]
        plane[:border] = table[fill]
        plane[bottom:] = table[fill]
        plane[border:bottom, :border] = table[fill]
        plane[border:bottom, right:] = table[fill]
        # One look-up per pixel, written in place, is OpenCV's fastest way from bytes to floats.
        target = plane[border:bottom, border:right].view(bits)
        values = cv2.LUT(cv2.extractChannel(level, channel), table.view(bits), dst=target)
        if values is not target:
            target[...] = values


def normalized_bytes(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Float32Array:
    """Return the normalized value of each byte per channel, (3, 256)."""
    values = (np.arange(256) - np.array(mean)[:, None]) / np.array(std)[:, None]
    table: Float32Array = values.astype(np.float32)
    return table
