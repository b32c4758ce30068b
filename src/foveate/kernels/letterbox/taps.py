# SPDX-License-Identifier: Apache-2.0
"""Samples and weights by which OpenCV resamples bytes, as tables for the kernels.

A growing image is blended in fixed point, with weights of 1/2048. A shrinking one is averaged in
float32 or, by whole factors, summed. The tables make the kernels give the same bytes as OpenCV on
x86-64, from version 4.10 on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foveate.arrays import Array

BLENDED, AVERAGED, HALVED = 0, 1, 2
"""Methods: fixed point; rounded to the nearest byte, ties to even; the same, ties to the larger."""

_TAP = np.dtype([("first", "i4"), ("last", "i4"), ("low", "f4"), ("middle", "f4"), ("high", "f4")])
_ONE, _FIXED = np.float32(1), np.float32(2048)
_LEAST_PART = 1e-3  # of a sample; OpenCV ignores less
_LEAST_FACTOR = np.finfo(np.float64).eps  # difference from a whole factor


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """The resampling of an image.

    Args:
        rows: For each row of the result: first and last row of the image that it is made of, and
            the weights of the first, of those between, and of the last.
        columns: The same for each column.
        method: One of the methods above.
        scale: Factor of the weighted sum.
    """

    rows: Array
    columns: Array
    method: int
    scale: np.float32

    @property
    def taps(self) -> Array:
        """All rows, then all columns, as bytes."""
        return np.concatenate([self.rows, self.columns]).view(np.uint8)


def resampling_of(old: tuple[int, int], new: tuple[int, int]) -> Resampling:
    """Return the resampling of an image; sizes are rows and columns."""
    if new[0] > old[0] or new[1] > old[1]:
        # OpenCV moves positions outside of the image to its edge only along x.
        rows, columns = (
            _blended(old[0], new[0], clamps=False),
            _blended(old[1], new[1], clamps=True),
        )
        return Resampling(rows=rows, columns=columns, method=BLENDED, scale=_ONE)
    factors = [_factor(*sides) for sides in zip(old, new, strict=True)]
    whole = [round(factor) for factor in factors]
    if all(abs(f - w) < _LEAST_FACTOR for f, w in zip(factors, whole, strict=True)):
        rows, columns = _summed(whole[0], new[0]), _summed(whole[1], new[1])
        method = HALVED if whole == [2, 2] else AVERAGED
        scale = _ONE / np.float32(whole[0] * whole[1])
        return Resampling(rows=rows, columns=columns, method=method, scale=scale)
    rows, columns = _averaged(old[0], new[0]), _averaged(old[1], new[1])
    return Resampling(rows=rows, columns=columns, method=AVERAGED, scale=_ONE)


def _factor(old: int, new: int) -> float:
    return 1 / (new / old)  # OpenCV rounds twice


def _blended(old: int, new: int, *, clamps: bool) -> Array:
    """Return the two neighbors of each position, and their shares in units of 1/2048."""
    at = ((np.arange(new) + 0.5) * _factor(old, new) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int32)
    share = at - first.astype(np.float32)
    if clamps:
        share[(first < 0) | (first >= old - 1)] = 0
    low, high = np.rint((_ONE - share) * _FIXED), np.rint(share * _FIXED)
    first, second = np.clip([first, first + 1], 0, old - 1)
    return _table(first, second, low, 0, high)


def _summed(factor: int, new: int) -> Array:
    """Return the samples of each sum, all with the same weight."""
    first = np.arange(new) * factor
    return _table(first, first + factor - 1, 1, 1, 1)


def _averaged(old: int, new: int) -> Array:
    """Return the samples that each interval covers, and the parts of it that they make up."""
    factor = _factor(old, new)
    start = np.arange(new) * factor
    end, width = start + factor, np.minimum(factor, old - start)
    last = np.minimum(np.floor(end), old - 1)
    first = np.minimum(np.ceil(start), last)
    before, after = first - start, end - last  # parts of the samples at both ends
    begins, ends = before > _LEAST_PART, after > _LEAST_PART
    middle = 1 / width
    high = np.where(ends, np.minimum(np.minimum(after, 1), width) / width, middle)
    low = np.where(begins, before / width, np.where(first < last, middle, high))
    return _table(first - begins, last - 1 + ends, low, middle, high)


def _table(
    first: ArrayLike, last: ArrayLike, low: ArrayLike, middle: ArrayLike, high: ArrayLike
) -> Array:
    """Return the taps of one axis."""
    table = np.empty(np.shape(first), _TAP)
    columns = {"first": first, "last": last, "low": low, "middle": middle, "high": high}
    for name, column in columns.items():
        table[name] = column
    return table
