# SPDX-License-Identifier: Apache-2.0
"""Changing an image's size, with the right filter and without losing its type."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

_Level = TypeVar("_Level", np.uint8, np.float32)


def resize(
    image: NDArray[_Level], size: tuple[int, int], *, growing: int = cv2.INTER_LINEAR
) -> NDArray[_Level]:
    """Return the image at another size.

    Args:
        image: (H, W) or (H, W, C).
        size: (width, height) in pixels.
        growing: OpenCV's filter for an image that grows; one that shrinks is averaged by area.
    """
    shrinks = size[0] < image.shape[1]
    result = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else growing)
    return np.asarray(result, dtype=image.dtype)
