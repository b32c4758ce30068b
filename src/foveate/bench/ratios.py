# SPDX-License-Identifier: Apache-2.0
"""Ratios of the times of two records, with bootstrap intervals.

Blocks of consecutive passes through the images are resampled, since the latencies of neighbors
depend on each other. Every block has the same images, so that a mixture of sizes does not widen an
interval. Two pipelines that were measured in turns are resampled in pairs of blocks, and the median
is that of the ratios of neighbors, so that what slowed both down cancels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cbrt, sqrt
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from foveate.bench.comparison import Ratio
from foveate.bench.facts import more_images
from foveate.errors import InputError, OptionError
from foveate.plain_text import counted
from foveate.typed_options import TypedOptions

if TYPE_CHECKING:
    from foveate.arrays import Array, Float64Array
    from foveate.bench.record import Record

LATENCY, PER_IMAGE = "latency, median per image", "time per image"

# From (R, passes, images) times to (R,) figures.
_Statistic: TypeAlias = "Callable[[Float64Array], Float64Array]"
# Blocks of the baseline and of the candidate, (B, passes, images) each.
_Pair: TypeAlias = "tuple[Array, Array]"
FEWEST_BLOCKS = 8
_CHUNK = 1 << 22  # resampled values at a time


@dataclass(frozen=True, kw_only=True)
class CompareOptions(TypedOptions):
    """Settings of a comparison.

    Args:
        confidence: Confidence of the intervals, between 0 and 1.
        tolerance: Change of the decisive ratio, as a share, that does not count.
        replicates: Number of resampled runs.

    Raises:
        OptionError: A value has the wrong type or lies outside its range.
    """

    confidence: float = 0.99
    tolerance: float = 0.01
    replicates: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.confidence < 1:
            raise OptionError(f"confidence must lie between 0 and 1, found {self.confidence:g}")
        self._check_at_least(tolerance=0, replicates=1)


def ratios_of(
    baseline: Record, candidate: Record, options: CompareOptions, *, paired: bool
) -> tuple[Ratio, ...]:
    """Return the ratios of the candidate's times to those of the baseline; above 1 it is slower.

    Raises:
        InputError: There are too few images.
    """
    latencies = _pair(_latencies, baseline, candidate, paired=paired)
    intervals = _pair(_intervals, baseline, candidate, paired=paired)
    return (
        _ratio(LATENCY, latencies, _per_image(0.5), options, paired=paired, of_neighbors=paired),
        _ratio("latency, p90 per image", latencies, _per_image(0.9), options, paired=paired),
        _ratio(PER_IMAGE, intervals, _mean, options, paired=paired),
    )


def ratio_of_images(
    baseline: Record, candidate: Record, options: CompareOptions, images: Sequence[int]
) -> Ratio:
    """Return the decisive ratio of records measured in turns, of some images by their indices.

    Raises:
        InputError: There are too few turns.
    """
    offline = baseline.scenario.name == "offline"
    pair = _pair(_intervals if offline else _latencies, baseline, candidate, paired=True)
    first, second = (blocks[:, :, list(images)] for blocks in pair)
    if offline:
        return _ratio(PER_IMAGE, (first, second), _mean, options, paired=True)
    statistic = _per_image(0.5)
    return _ratio(LATENCY, (first, second), statistic, options, paired=True, of_neighbors=True)


def _ratio(
    name: str,
    pair: _Pair,
    statistic: _Statistic,
    options: CompareOptions,
    *,
    paired: bool,
    of_neighbors: bool = False,
) -> Ratio:
    """Return the ratio of a figure, or the figure of the ratios of neighbors."""
    generator = np.random.default_rng(0)  # each ratio is of the same draws
    drawn = [generator.integers(len(one), size=(options.replicates, len(one))) for one in pair]
    baseline, candidate = (_whole(blocks, statistic) for blocks in pair)
    if of_neighbors:
        pairs = pair[1] / pair[0]
        value, spread = _whole(pairs, statistic), _resampled(pairs, drawn[0], statistic)
    else:
        value = candidate / baseline
        spread = _resampled(pair[1], drawn[0 if paired else 1], statistic)
        spread = spread / _resampled(pair[0], drawn[0], statistic)
    tail = (1 - options.confidence) / 2
    low, high = np.quantile(spread, [tail, 1 - tail])
    return Ratio(
        name=name,
        baseline=baseline,
        candidate=candidate,
        value=value,
        low=float(low),
        high=float(high),
    )


def _whole(blocks: Array, statistic: _Statistic) -> float:
    """Return the figure of all blocks."""
    return float(statistic(blocks.reshape(1, -1, blocks.shape[2]))[0])


def _pair(
    series: Callable[[Record], Float64Array], baseline: Record, candidate: Record, *, paired: bool
) -> _Pair:
    """Return the values of both records in blocks, of equal number if they belong together."""
    first, second = (_blocks(series(one), one, paired=paired) for one in (baseline, candidate))
    if paired:  # an interruption may have come between the two turns of the last pair
        count = min(len(first), len(second))
        first, second = first[:count], second[:count]
    return first, second


def _resampled(blocks: Array, drawn: Array, statistic: _Statistic) -> Float64Array:
    """Return the figure of each resampled run: blocks (B, passes, images), drawn (R, B) to (R,)."""
    rows = max(1, _CHUNK // blocks.size)
    parts = []
    for start in range(0, len(drawn), rows):
        taken = blocks[drawn[start : start + rows]]
        parts.append(statistic(taken.reshape(len(taken), -1, blocks.shape[2])))
    return np.concatenate(parts)


def _blocks(values: Float64Array, record: Record, *, paired: bool) -> Array:
    """Return the values of the measured samples as (blocks, passes, images)."""
    measured = ~np.array(record.samples.warm_up, bool)
    inputs = np.array(record.samples.input)[measured]
    columns = [values[inputs == index] for index in range(len(record.inputs))]
    passes = min(len(column) for column in columns)
    matrix = np.stack([column[:passes] for column in columns], axis=1)
    if paired:
        turns = zip(record.samples.block, measured, strict=True)
        blocks = [block for block, counts in turns if counts]
        length = blocks.count(blocks[0]) // len(columns) if blocks else 0
        needed = FEWEST_BLOCKS * max(1, length)
    else:
        length = _passes_per_block(passes, len(columns), record.scenario.name)
        needed = _needed_passes(passes, len(columns), record.scenario.name)
    count = passes // length if length else 0
    if count < FEWEST_BLOCKS:
        images = counted(len(columns), "image", "images")
        raise InputError(
            f"{record.subject.label}: {measured.sum()} images are too few for a comparison, which needs "
            f"{needed} passes through the {images} at least",
            remedy=f"{more_images(record)}, and measure it again",
        )
    return matrix[: count * length].reshape(count, length, len(columns))


def _needed_passes(passes: int, images: int, scenario: str) -> int:
    """Return the next number of passes that has enough blocks, whose length grows with it."""
    return next(
        more
        for more in itertools.count(passes)
        if more // _passes_per_block(more, images, scenario) >= FEWEST_BLOCKS
    )


def _passes_per_block(passes: int, images: int, scenario: str) -> int:
    """Return the passes per block, so that different blocks are nearly independent."""
    # A queue remembers longer than a pipeline that is empty between two images.
    length = sqrt(passes * images) if scenario == "server" else cbrt(passes * images)
    return max(1, round(length / images))


def _latencies(record: Record) -> Float64Array:
    """Return the latency of each measured sample."""
    samples = record.samples
    latencies = np.array(samples.end) - np.array(samples.arrival)
    return np.asarray(latencies[~np.array(samples.warm_up, bool)])


def _intervals(record: Record) -> Float64Array:
    """Return the time of each measured sample since the result before it in its block."""
    samples = record.samples
    measured = ~np.array(samples.warm_up, bool)
    start, end = np.array(samples.start)[measured], np.array(samples.end)[measured]
    blocks = np.array([-1 if one is None else one for one in samples.block])[measured]
    intervals = np.empty(len(end))
    for block in np.unique(blocks):
        rows = np.flatnonzero(blocks == block)
        rows = rows[np.argsort(end[rows], kind="stable")]
        intervals[rows] = np.diff(end[rows], prepend=start[rows].min())
    return intervals


def _mean(values: Float64Array) -> Float64Array:
    return np.asarray(values.mean(axis=(1, 2)))


def _per_image(share: float) -> _Statistic:
    """Return the geometric mean over the images of a quantile of each.

    A quantile of all images together may lie between two sizes, where its interval means nothing.
    """

    def statistic(values: Float64Array) -> Float64Array:
        quantiles = np.quantile(values, share, axis=1)
        return np.asarray(np.exp(np.log(quantiles).mean(axis=1)))

    return statistic
