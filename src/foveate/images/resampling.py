# SPDX-License-Identifier: Apache-2.0
"""One way into OpenCV's resampling, with the rule that every part of Foveate follows."""

from __future__ import annotations

import cv2

from foveate.arrays import Array


def resample(image: Array, height: int, width: int) -> Array:
    """Resample an image: area average if it shrinks, else bilinear; pixel centres at halves.

    Args:
        image: (H, W) or (H, W, C). It must not shrink along one axis and grow along the other.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        (height, width) or (height, width, C), of the same dtype; ``image`` itself if the size
        stays.
    """
    if image.shape[:2] == (height, width):
        return image
    grows = height > image.shape[0] or width > image.shape[1]
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return cv2.resize(image, (width, height), interpolation=method)
