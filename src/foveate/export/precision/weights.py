# SPDX-License-Identifier: Apache-2.0
"""Weights in eight bits, one scale an output, such that every processor gets the same sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import Float32Array

_LARGEST_CODE = 127
_LARGEST_PAIR = 128
"""Sum of two neighbouring codes of one sign: 255 * 128 is below 2^15."""


@dataclass(frozen=True, kw_only=True)
class QuantisedWeights:
    """Codes of the weights' shape, and (outputs,) float32 scales: weight = code * scale."""

    codes: NDArray[np.int8]
    scales: Float32Array


def quantise_weights(
    weights: Float32Array, axis: int, *, depthwise: bool = False, least: Float32Array | None = None
) -> QuantisedWeights:
    """Quantise symmetrically, with a scale for each index of an axis.

    NOTE: Without VNNI an x86 processor multiplies pairs of bytes and adds them in 16 bits with
    saturation (VPMADDUBSW): 255 * 127 + 255 * 127 becomes 32767 without a word. The scale of an
    output is therefore the smallest for which no two neighbours can get there. That costs little,
    since large neighbours of one sign are rare; seven bits for all would cost half the resolution.

    Args:
        weights: of a convolution (O, I, H, W), or of a product (O, I) or (I, O).
        axis: that counts the outputs.
        depthwise: each output reads one channel; such sums are made in 32 bits everywhere.
        least: (outputs,) or (1,), what no scale is below.
    """
    rows = np.moveaxis(weights, axis, 0)
    largest = np.abs(rows.reshape(len(rows), -1)).max(axis=1, initial=0.0) / _LARGEST_CODE
    if not depthwise:
        # Neighbours in memory, channels last or first.
        for layout in (rows, np.moveaxis(rows, 1, -1)):
            # Rounding moves either by half a code, so the pair is bounded by one less.
            pairs = _largest_pairs(layout.reshape(len(rows), -1)) / (_LARGEST_PAIR - 1)
            largest = np.maximum(largest, pairs)
    if least is not None:
        largest = np.maximum(largest, least)
    scales = np.where(largest > 0, largest, 1.0).astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    codes = np.rint(weights / scales.reshape(shape)).clip(-_LARGEST_CODE, _LARGEST_CODE)
    return QuantisedWeights(codes=codes.astype(np.int8), scales=scales)


def _largest_pairs(rows: Float32Array) -> Float32Array:
    """Return the largest sum of two neighbours of one sign, of each row."""
    even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    sums = [
        np.maximum(sign * even[:, 0::2], 0) + np.maximum(sign * even[:, 1::2], 0)
        for sign in (1.0, -1.0)
    ]
    largest: Float32Array = np.maximum(*sums).max(axis=1, initial=0.0)
    return largest
