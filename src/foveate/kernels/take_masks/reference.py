# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version."""

from collections.abc import Sequence

from foveate.arrays import Float32Array


def take_masks(
    logits: Float32Array, rows: Sequence[int] | None, found: int, taken: Float32Array
) -> Float32Array:
    """Return ``taken`` with the masks that are in use; see the CPU version."""
    result = taken.copy()
    for row in range(found) if rows is None else rows[:found]:
        for i in range(logits.shape[1]):
            for j in range(logits.shape[2]):
                result[row, i, j] = logits[row, i, j]
    return result
