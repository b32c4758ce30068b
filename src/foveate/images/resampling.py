# SPDX-License-Identifier: Apache-2.0
"""Resampling of images by OpenCV, with the method that every part of Foveate uses."""

import cv2

from foveate.arrays import Array


def resample(image: Array, height: int, width: int) -> Array:
    """Resample an image by area average if it shrinks, and bilinearly otherwise.

    Pixel centers lie at half-integers.

    Args:
        image: (H, W) or (H, W, C). It must not shrink along one axis and grow along the other.
        height: Number of rows of the result.
        width: Number of columns of the result.

    Returns:
        (height, width) or (height, width, C) of the same dtype; ``image`` itself if its size does
        not change.
    """
    if image.shape[:2] == (height, width):
        return image
    grows = height > image.shape[0] or width > image.shape[1]
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return cv2.resize(image, (width, height), interpolation=method)
