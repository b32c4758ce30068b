# SPDX-License-Identifier: Apache-2.0
"""Map mode of bilinear upsampling, slow and obvious, in float64."""

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import Float32Array


def corner_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) that interpolates an axis with aligned corners.

    Aligned means that the first samples of both lengths coincide, and the last samples as well.
    """
    weights = np.zeros((new, old))
    for i in range(new):
        position = i * (old - 1) / (new - 1) if new > 1 else 0.0
        first = min(int(position), max(old - 2, 0))
        weights[i, first] += 1 - (position - first)
        weights[i, min(first + 1, old - 1)] += position - first
    return weights


def _half_pixel_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) that interpolates an axis between pixel centers.

    It samples without averaging, so that a shrinking axis skips values.
    """
    weights = np.zeros((new, old))
    for i in range(new):
        # The center of sample i, in samples of the old axis; borders are extended.
        position = min(max((2 * i + 1) * old / (2 * new) - 0.5, 0.0), old - 1.0)
        first = min(int(position), max(old - 2, 0))
        weights[i, first] += 1 - (position - first)
        weights[i, min(first + 1, old - 1)] += position - first
    return weights


def upsample(
    features: Float32Array, height: int, width: int, *, align_corners: bool, relu: bool = False
) -> NDArray[np.float64]:
    """Resize maps by bilinear interpolation.

    Args:
        features: Maps (N, C, H, W).
        height: Rows of the result.
        width: Columns of the result.
        align_corners: Whether corner samples coincide; otherwise centers lie at half-integers.
        relu: Whether negative values are replaced by 0 before resizing.

    Returns:
        Maps (N, C, height, width).
    """
    values = features.astype(np.float64)
    if relu:
        values = np.maximum(values, 0.0)
    weights = corner_weights if align_corners else _half_pixel_weights
    resized: NDArray[np.float64] = np.einsum(
        "ih,nchw,jw->ncij",
        weights(features.shape[2], height),
        values,
        weights(features.shape[3], width),
    )
    return resized
