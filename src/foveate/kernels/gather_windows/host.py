# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory. Bound by the bytes of the patches, written once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Float32Array, Int32Array


def gather_windows(
    maps: Sequence[Float32Array], picks: Int32Array, patches: Float32Array, *, step: int
) -> None:
    """Copy the patch of each pick out of the map of its level.

    Args:
        maps: One (1, C, H, W) a level.
        picks: (K, 3): level, row and column of the cell; level -1 for padding.
        patches: (K, C, P, P), or (K, C) where P is 1. Written in full, zeros for padding.
        step: Map pixels from one cell to the next.
    """
    if patches.ndim == 2:
        patches = patches[:, :, None, None]
    size = patches.shape[2]
    for patch, (level, row, column) in zip(patches, picks.tolist(), strict=True):
        if level < 0:
            patch[...] = 0
            continue
        top, left = row * step, column * step
        np.copyto(patch, maps[level][0, :, top : top + size, left : left + size])
