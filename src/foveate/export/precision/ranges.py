# SPDX-License-Identifier: Apache-2.0
"""From the values that were seen to eight bits: which range is worth its resolution?

Three methods. All of the range (min-max); all but the largest 0.01 % (percentile); or the part
whose quantised distribution is nearest to the true one (entropy: Migacz, "8-bit Inference with
TensorRT", GTC 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate.errors import OptionError

METHODS = ("min-max", "percentile", "entropy")
BINS = 2048
PERCENTILE = 0.9999
_MIDDLE = 128

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """An activation's: value = scale * (code - zero_point), codes from 0 to 255.

    The zero point is 0 where nothing is negative, and 128 elsewhere. Such a code is a signed one
    without a zero point, moved by 128: ONNX Runtime is fastest with the one, TensorRT takes nothing
    but the other, and no value changes between both.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often magnitudes were seen.

    Attributes:
        counts: (`BINS`,) of |x| in equal bins from 0 to `largest`.
        largest: the largest |x|.
        negative: whether there was an x below 0.
    """

    counts: Counts
    largest: float
    negative: bool


def encode(histogram: Histogram, method: str) -> Encoding:
    """Choose the codes of an activation.

    Raises:
        OptionError: there is no such method.
    """
    levels = 127 if histogram.negative else 255
    if method == "min-max":
        top = histogram.largest
    elif method == "percentile":
        top = histogram.largest * _percentile_bins(histogram.counts) / len(histogram.counts)
    elif method == "entropy":
        bins = entropy_bins(histogram.counts, levels + 1)
        top = histogram.largest * bins / len(histogram.counts)
    else:
        raise OptionError(
            f"there is no calibration method {method!r}", remedy=f"use {', '.join(METHODS)}"
        )
    # What was always zero is represented exactly by any scale.
    scale = top / levels if top > 0 else 1.0
    return Encoding(
        scale=max(scale, float(np.finfo(np.float32).tiny)),
        zero_point=_MIDDLE if histogram.negative else 0,
    )


def _percentile_bins(counts: Counts) -> int:
    """Return how many bins from 0 on hold `PERCENTILE` of all values."""
    total = np.cumsum(counts)
    return int(np.searchsorted(total, PERCENTILE * total[-1])) + 1


def entropy_bins(counts: Counts, levels: int) -> int:
    """Return how many bins from 0 on to keep: those that lose the least information.

    Of every candidate the true distribution, with what lies beyond in its last bin, is compared by
    the Kullback-Leibler divergence with the one that is left when `levels` codes share its bins,
    each spread over the bins of its own that hold anything.

    Args:
        counts: of a `Histogram`.
        levels: codes of one sign.
    """
    # Zeros are exact in any code, and ReLU gives so many that they would decide alone.
    values = counts.astype(np.float64)
    values[0] = 0
    if not values.any():
        return len(values)
    beyond = np.cumsum(values[::-1])[::-1]
    best, least = len(values), np.inf
    for kept in range(levels, len(values) + 1, max(1, len(values) // 256)):
        true = values[:kept].copy()
        left = _shared(true, levels)
        true[-1] += beyond[kept] if kept < len(values) else 0
        divergence = _divergence(true, left)
        if divergence < least:
            best, least = kept, divergence
    return best


def _shared(values: Reals, levels: int) -> Reals:
    """Let each of `levels` codes spread what its bins hold evenly over those that are not empty."""
    code = np.arange(len(values)) * levels // len(values)
    filled = values > 0
    sums = np.bincount(code, values, levels)
    sizes = np.maximum(np.bincount(code, filled, levels), 1)
    spread: Reals = np.where(filled, (sums / sizes)[code], 0.0)
    return spread


def _divergence(true: Reals, left: Reals) -> float:
    """Kullback-Leibler divergence; infinite where nothing is left of something."""
    if not left.sum():
        return float("inf")
    p, q = true / true.sum(), left / left.sum()
    filled = p > 0
    # A bin that only what lies beyond has filled gets the least share, as Migacz smooths it.
    q = np.maximum(q[filled], 1e-9)
    return float((p[filled] * np.log(p[filled] / q)).sum())
