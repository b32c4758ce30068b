# SPDX-License-Identifier: Apache-2.0
"""What a stage's values are on real images: its inputs, and a histogram of each value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from foveate.arrays import Array, Float32Array
from foveate.bundle import Bundle
from foveate.export.checks.parity import calls_of
from foveate.export.execution.sessions import exposing, session_function
from foveate.export.precision.ranges import BINS, Histogram

Call = dict[str, Array]

_LARGEST_CALL = 3 * 720 * 720
"""Numbers of a call's inputs up to which it is observed: all values of a call are in memory at once."""
_SMALL_CALL = 3 * 400 * 400
_SAMPLE = 1 << 15
"""Values of a call that are kept for a histogram."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A value over all calls.

    Attributes:
        histogram: of its magnitudes.
        means: of each channel (axis 1), float32; one of a value without channels, or whose axis 1
            is as long as there are boxes.
    """

    histogram: Histogram
    means: Float32Array


def stage_calls(
    bundle: Bundle, images: Sequence[Path], tell: Callable[[int, int], None] | None = None
) -> dict[str, list[Call]]:
    """Run a bundle on images and keep the inputs of its stages, those of too large levels left out.

    Raises:
        InputError: an image cannot be read.
    """
    # Enlarged images have the same values as others, only more of them.
    scales = bundle.manifest.pyramid.scales
    kept = tuple(scale for scale in scales if scale <= 1) or (min(scales),)
    pyramid = replace(bundle.manifest.pyramid, scales=kept)
    bundle = replace(bundle, manifest=replace(bundle.manifest, pyramid=pyramid))
    functions = {
        name: session_function(bundle.stage_path(name)) for name in bundle.manifest.networks
    }
    calls: dict[str, list[Call]] = {name: [] for name in bundle.manifest.networks}
    for number, image in enumerate(images):
        of_image: dict[str, list[Call]] = {name: [] for name in calls}
        for stage, inputs in calls_of(bundle, functions, image):
            of_image[stage].append(inputs)
        for stage, found in of_image.items():
            calls[stage] += [one for one in found if _size(one) <= _LARGEST_CALL] or found[:1]
        if tell is not None:
            tell(number + 1, len(images))
    return calls


def small_calls(calls: Sequence[Call], most: int) -> list[Call]:
    """Choose calls to try things on: the largest of those that are small, evenly from all images."""
    small = [one for one in calls if _size(one) <= _SMALL_CALL] or list(calls)
    small = [one for one in small if _size(one) >= max(map(_size, small)) / 4]
    return small[:: max(1, len(small) // most)][:most]


def observe(
    model: onnx.ModelProto, calls: Sequence[Call], values: Sequence[str]
) -> dict[str, Observed]:
    """Run a stage on all calls and look at its values.

    Largest magnitude and means are of all values, the histogram of as many of each call as make its
    shape certain.

    Args:
        model: of the stage, in float32.
        calls: inputs by name.
        values: names of values or inputs of its graph.
    """
    inner = [name for name in values if name not in {one.name for one in model.graph.input}]
    function = session_function(exposing(model, inner)) if inner else None
    tallies = {name: _Tally() for name in values}
    for call in calls:
        found = {**call, **(function(call) if function else {})}
        for name, tally in tallies.items():
            tally.add(found[name])
    return {name: tally.result() for name, tally in tallies.items()}


class _Tally:
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
