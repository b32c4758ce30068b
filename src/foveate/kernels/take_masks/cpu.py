# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory, bound by memory traffic: each mask is copied once."""

import numpy as np

from foveate.arrays import Float32Array, Int32Array


def take_masks(
    logits: Float32Array, rows: Int32Array | None, found: Int32Array, taken: Float32Array
) -> None:
    """Copy the masks that are in use; all other masks of ``taken`` stay as they are.

    On a GPU, ``taken`` is memory of the CPU, so that only these masks cross the bus. A mask that
    several rows name is copied once.

    Args:
        logits: Mask logits (K, S, S) of all windows, float32 or float16.
        rows: Windows (N,) whose masks are in use, or None for the first ``found`` windows; one that
            does not exist is ignored.
        found: Number of rows that exist, (1,); they come first.
        taken: Masks (K, S, S) of the dtype of ``logits``.
    """
    windows = np.arange(len(logits)) if rows is None else rows
    for window in set(windows[: max(int(found[0]), 0)].tolist()):
        if 0 <= window < len(logits):
            taken[window] = logits[window]
