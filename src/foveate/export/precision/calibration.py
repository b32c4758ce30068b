# SPDX-License-Identifier: Apache-2.0
"""Statistics of a stage's values on images, and the eight-bit encodings that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from foveate.arrays import Array, Float32Array
from foveate.bundle import Bundle, Manifest
from foveate.export.execution.sessions import calls_of, exposing, session_function
from foveate.progress import Progress, no_progress

METHODS = ("min-max", "percentile", "entropy")
BINS = 2048
PERCENTILE = 0.9999
_MIDDLE = 128

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding of an activation: value = scale * (code - zero_point), with codes from 0 to 255.

    Args:
        scale: Difference between neighboring codes.
        zero_point: 0 if no value is negative, and 128 otherwise. A code with zero point 128 is a
            signed code shifted by 128: ONNX Runtime is fastest with the former, TensorRT accepts
            only the latter, and the values are the same.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Histogram of magnitudes.

    Args:
        counts: (``BINS``,) counts of |x| in equal bins from 0 to ``largest``.
        largest: Largest |x|.
        negative: Whether some x is negative.
    """

    counts: Counts
    largest: float
    negative: bool


def encode(histogram: Histogram, method: str) -> Encoding:
    """Return the encoding of an activation.

    ``min-max`` covers the whole range and ``percentile`` all but the largest 0.01 %. ``entropy``
    covers the part whose quantized distribution is nearest to the true one (Migacz, "8-bit
    Inference with TensorRT", GTC 2017).
    """
    levels, counts = 127 if histogram.negative else 255, histogram.counts
    bins = len(counts)
    if method == "percentile":
        total = np.cumsum(counts)
        bins = int(np.searchsorted(total, PERCENTILE * total[-1])) + 1
    elif method == "entropy":
        bins = entropy_bins(counts, levels + 1)
    top = histogram.largest * bins / len(counts)
    # Any scale represents a value that is always zero.
    scale = top / levels if top > 0 else 1.0
    return Encoding(
        scale=max(scale, float(np.finfo(np.float32).tiny)),
        zero_point=_MIDDLE if histogram.negative else 0,
    )


def entropy_bins(counts: Counts, levels: int) -> int:
    """Return the number of bins from 0 on that lose the least information when kept alone.

    For each candidate, the true distribution, with everything beyond counted in its last bin, is
    compared by Kullback-Leibler divergence with the quantized one, in which ``levels`` codes share
    the bins, and each spreads its count over those of its bins that are not empty.
    """
    # Zeros are exact in any code, and ReLU produces so many that they would decide alone.
    values = counts.astype(np.float64)
    values[0] = 0
    if not values.any():
        return len(values)
    beyond = np.cumsum(values[::-1])[::-1]
    best, least = len(values), np.inf
    for kept in range(levels, len(values) + 1, max(1, len(values) // 256)):
        true = values[:kept].copy()
        left = _spread(true, levels)
        true[-1] += beyond[kept] if kept < len(values) else 0
        divergence = _divergence(true, left)
        if divergence < least:
            best, least = kept, divergence
    return best


def _spread(values: Reals, levels: int) -> Reals:
    """Spread the count of each of ``levels`` codes evenly over its bins that are not empty."""
    code = np.arange(len(values)) * levels // len(values)
    filled = values > 0
    sums = np.bincount(code, values, levels)
    sizes = np.maximum(np.bincount(code, filled, levels), 1)
    spread: Reals = np.where(filled, (sums / sizes)[code], 0.0)
    return spread


def _divergence(true: Reals, left: Reals) -> float:
    """Return the Kullback-Leibler divergence; infinite if nothing is left."""
    if not left.sum():
        return float("inf")
    p, q = true / true.sum(), left / left.sum()
    filled = p > 0
    # A bin that is filled only by values beyond it gets a minimal share, the smoothing of Migacz.
    q = np.maximum(q[filled], 1e-9)
    return float((p[filled] * np.log(p[filled] / q)).sum())


Call = dict[str, Array]

_LARGEST_CALL = 3 * 720 * 720
"""Largest input of a call that is observed, since all of its values are in memory at once."""
_SMALL_CALL = 3 * 400 * 400
_SAMPLE = 1 << 15
"""Number of values per call that are kept for a histogram."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Statistics of a value over all calls.

    Args:
        histogram: Histogram of its magnitudes.
        means: (C,) float32 means of the channels (axis 1); a single mean for a value without
            channels, or whose axis 1 counts boxes.
    """

    histogram: Histogram
    means: Float32Array


def stage_calls(
    manifest: Manifest,
    models: Mapping[str, onnx.ModelProto],
    images: Sequence[Path],
    progress: Progress = no_progress,
) -> dict[str, list[Call]]:
    """Run a cascade on images, and return the inputs of each stage without those of large levels.

    Raises:
        InputError: An image cannot be read.
    """
    # Enlarged images have the same values as others, only more of them.
    scales = manifest.pyramid.scales
    kept = tuple(scale for scale in scales if scale <= 1) or (min(scales),)
    pyramid = replace(manifest.pyramid, scales=kept)
    bundle = Bundle(Path(manifest.name), replace(manifest, pyramid=pyramid))
    functions = {name: session_function(models[name]) for name in manifest.networks}
    calls: dict[str, list[Call]] = {name: [] for name in functions}
    for number, image in enumerate(images):
        of_image: dict[str, list[Call]] = {name: [] for name in calls}
        for stage, inputs in calls_of(bundle, functions, image):
            of_image[stage].append(inputs)
        for stage, found in of_image.items():
            calls[stage] += [one for one in found if _size(one) <= _LARGEST_CALL] or found[:1]
        progress("Images", number + 1, len(images))
    return calls


def small_calls(calls: Sequence[Call], most: int) -> list[Call]:
    """Return calls for trials: the largest of the small ones, spread evenly over the images."""
    small = [one for one in calls if _size(one) <= _SMALL_CALL] or list(calls)
    small = [one for one in small if _size(one) >= max(map(_size, small)) / 4]
    return small[:: max(1, len(small) // most)][:most]


def observe(
    model: onnx.ModelProto, calls: Sequence[Call], values: Sequence[str]
) -> dict[str, Observed]:
    """Run a float32 stage on all calls and return statistics of values or inputs, by name.

    Largest magnitudes and means cover all values; histograms cover a sample from each call.
    """
    inner = [name for name in values if name not in {one.name for one in model.graph.input}]
    function = session_function(exposing(model, inner)) if inner else None
    accumulators = {name: _Accumulator() for name in values}
    for call in calls:
        found = {**call, **(function(call) if function else {})}
        for name, accumulator in accumulators.items():
            accumulator.add(found[name])
    return {name: accumulator.result() for name, accumulator in accumulators.items()}


class _Accumulator:
    def __init__(self) -> None:
        self._largest, self._negative, self._number = 0.0, False, 0
        self._sums: dict[int, Array] = {}  # by number of channels
        self._sample: list[Array] = []
        self._chance = np.random.default_rng(0)

    def add(self, values: Array) -> None:
        if not values.size:
            return
        self._largest = max(self._largest, float(np.abs(values).max()))
        self._negative = self._negative or float(values.min()) < 0
        channels = np.moveaxis(values, 1, 0) if values.ndim > 1 else values[None]
        flat = channels.reshape(len(channels), -1)
        sums = flat.sum(axis=1, dtype=np.float64)
        self._sums[len(sums)] = self._sums.get(len(sums), 0.0) + sums
        self._number += values.size
        chosen = self._chance.integers(values.size, size=min(values.size, _SAMPLE))
        self._sample.append(np.abs(values.reshape(-1)[chosen]))

    def result(self) -> Observed:
        sample = np.concatenate([np.zeros(0, np.float32), *self._sample])
        counts, _ = np.histogram(sample, bins=BINS, range=(0.0, self._largest or 1.0))
        sums = list(self._sums.values())
        channels = sums[0] if len(sums) == 1 else np.array([sum(one.sum() for one in sums)])
        means = channels * len(channels) / max(1, self._number)
        return Observed(
            histogram=Histogram(counts=counts, largest=self._largest, negative=self._negative),
            means=means.astype(np.float32),
        )


def _size(call: Call) -> int:
    return sum(array.size for array in call.values())
