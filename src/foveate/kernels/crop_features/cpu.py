# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory, bound by memory traffic: each patch is written once."""

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Float32Array, Int32Array


def crop_features(
    maps: Sequence[Float32Array], indices: Int32Array, patches: Float32Array, *, step: int
) -> None:
    """Copy the patch of each window out of the map of its level.

    Args:
        maps: One map (1, C, H, W) per level, float32 or float16.
        indices: Level, row and column of each window's cell, (K, 3); level -1 for padding.
        patches: Patches (K, C, P, P), or (K, C) if P is 1, of the dtype of the maps; written in
            full, zeros for padding.
        step: Map pixels from one cell to the next.
    """
    if patches.ndim == 2:
        patches = patches[:, :, None, None]
    size = patches.shape[2]
    for patch, (level, row, column) in zip(patches, indices.tolist(), strict=True):
        if level < 0:
            patch[...] = 0
            continue
        top, left = row * step, column * step
        np.copyto(patch, maps[level][0, :, top : top + size, left : left + size])
