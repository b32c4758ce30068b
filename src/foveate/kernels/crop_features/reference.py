# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version."""

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Float32Array, Int32Array


def crop_features(
    maps: Sequence[Float32Array], indices: Int32Array, size: int, step: int
) -> Float32Array:
    """Return the patches (K, C, size, size) of the windows; see the CPU version."""
    channels = maps[0].shape[1]
    patches = np.zeros((len(indices), channels, size, size), np.float32)
    for k, (level, row, column) in enumerate(indices):
        for c in range(channels if level >= 0 else 0):
            for i in range(size):
                for j in range(size):
                    patches[k, c, i, j] = maps[level][0, c, row * step + i, column * step + j]
    return patches
