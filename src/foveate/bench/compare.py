# SPDX-License-Identifier: Apache-2.0
"""The comparison of two records: ratios with intervals, and a verdict.

The intervals are bootstrap intervals over blocks of consecutive passes through the images, since
the latencies of neighbors depend on each other. Every block has the same images, so that a mixture
of sizes does not widen an interval. Two pipelines that were measured in turns are resampled in
pairs of blocks, so that what slowed both down cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cbrt, sqrt
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from foveate.bench.comparison import Comparison, Ratio
from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.arrays import Array, Float64Array
    from foveate.bench.record import Record

# The values of the measured samples of a record.
_Series: TypeAlias = "Callable[[Record], Float64Array]"
# From (R, passes, images) times to (R,) figures.
Statistic: TypeAlias = "Callable[[Float64Array], Float64Array]"
_FEWEST_BLOCKS = 8
_CHUNK = 1 << 22  # resampled values at a time
_SHARED_IMAGES = "measure both with the same images"


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Settings of a comparison.

    Args:
        confidence: Confidence of the intervals, between 0 and 1.
        tolerance: Change of the decisive ratio, as a share, that does not count.
        replicates: Number of resampled runs.
        seed: Seed of the draws.
    """

    confidence: float = 0.99
    tolerance: float = 0.01
    replicates: int = 2000
    seed: int = 0


def compare(
    baseline: Record,
    candidate: Record,
    options: CompareOptions | None = None,
    *,
    paired: bool = False,
) -> Comparison:
    """Compare two records.

    A ratio above 1 means that the candidate is slower. The decisive ratio is that of the median
    latency per image, averaged over the images; in the scenario "offline" it is that of the time
    per image, the inverse of the throughput.

    Args:
        baseline: The record to compare with.
        candidate: The record that is judged.
        options: Settings; the defaults if None.
        paired: Whether both were measured in turns.

    Raises:
        InputError: The scenarios or the images differ, or there are too few images.
    """
    options = options or CompareOptions()
    _check_comparable(baseline, candidate)
    name, figures = _figures(baseline.scenario.name)
    generator = np.random.default_rng(options.seed)
    ratios = []
    for label, (series, statistic) in figures.items():
        first, second = (_blocks(series(one), one, paired=paired) for one in (baseline, candidate))
        ratios.append(_ratio(label, first, second, statistic, options, generator, paired=paired))
    decisive = next(one for one in ratios if one.name == name)
    return Comparison(
        baseline=label_of(baseline),
        candidate=label_of(candidate),
        paired=paired,
        confidence=options.confidence,
        tolerance=options.tolerance,
        decisive=name,
        verdict=_verdict(baseline, candidate, decisive, options.tolerance),
        ratios=tuple(ratios),
        warnings=tuple(_warnings(baseline, candidate)),
    )


def label_of(record: Record) -> str:
    """Return the name of what a record measured."""
    subject = record.subject
    precisions = "/".join(sorted(set(subject.precision.values())))
    threads = "" if subject.threads is None else f", {subject.threads} threads"
    return f"{subject.bundle} {precisions}, {subject.backend} on {subject.device}{threads}"


def _figures(scenario: str) -> tuple[str, dict[str, tuple[_Series, Statistic]]]:
    """Return the name of the decisive figure, and all figures by name."""
    latency, per_image = "latency, median per image", "time per image"
    figures: dict[str, tuple[_Series, Statistic]] = {
        latency: (_latencies, _median_per_image),
        "latency p50": (_latencies, _quantile(0.5)),
        "latency p90": (_latencies, _quantile(0.9)),
        per_image: (_intervals, _mean),
    }
    return per_image if scenario == "offline" else latency, figures


def _check_comparable(baseline: Record, candidate: Record) -> None:
    if baseline.scenario.name != candidate.scenario.name:
        raise InputError(
            f"the scenarios differ: {baseline.scenario.name!r} and {candidate.scenario.name!r}",
            remedy="measure both in the same scenario",
        )
    if [one.sha256 for one in baseline.inputs] != [one.sha256 for one in candidate.inputs]:
        raise InputError(
            f"the images differ: {len(baseline.inputs)} and {len(candidate.inputs)} images, or "
            "other files",
            remedy=_SHARED_IMAGES,
        )
    if baseline.scenario.rate != candidate.scenario.rate:
        raise InputError(
            f"the rates differ: {baseline.scenario.rate} and {candidate.scenario.rate} per second",
            remedy="measure both with the same --rate",
        )


def _warnings(baseline: Record, candidate: Record) -> Iterator[str]:
    """Yield why the comparison may mislead."""
    first, second = baseline.machine, candidate.machine
    if (first.processor.name, first.processor.cores, first.gpu and first.gpu.name) != (
        second.processor.name,
        second.processor.cores,
        second.gpu and second.gpu.name,
    ):
        yield f"the machines differ: {first.processor.name} and {second.processor.name}"
    for name, record in (("baseline", baseline), ("candidate", candidate)):
        if record.interrupted:
            yield f"the {name} was interrupted"
        if not record.machine.fit:
            yield f"the {name} is unfit to publish: {'; '.join(record.machine.reasons)}"
        if record.outcome.rate_held is False:
            yield f"the {name} did not keep up with the rate of arrivals"
    if baseline.scenario.in_flight != candidate.scenario.in_flight:
        yield "the numbers of images in flight differ"


def _verdict(baseline: Record, candidate: Record, ratio: Ratio, tolerance: float) -> str:
    if baseline.outcome.rate_held and candidate.outcome.rate_held is False:
        return "slower"
    if ratio.low > 1 + tolerance:
        return "slower"
    return "faster" if ratio.high < 1 - tolerance else "no difference shown"


def _ratio(
    label: str,
    baseline: Array,
    candidate: Array,
    statistic: Statistic,
    options: CompareOptions,
    generator: np.random.Generator,
    *,
    paired: bool,
) -> Ratio:
    """Return the ratio of a figure with its bootstrap interval; blocks are (B, passes, images)."""
    whole = [float(statistic(one.reshape(1, -1, one.shape[2]))[0]) for one in (baseline, candidate)]
    first = generator.integers(len(baseline), size=(options.replicates, len(baseline)))
    second = first
    if not paired:
        second = generator.integers(len(candidate), size=(options.replicates, len(candidate)))
    ratios = _resampled(candidate, second, statistic) / _resampled(baseline, first, statistic)
    tail = (1 - options.confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Ratio(
        name=label,
        baseline=whole[0],
        candidate=whole[1],
        value=whole[1] / whole[0],
        low=float(low),
        high=float(high),
    )


def _resampled(blocks: Array, drawn: Array, statistic: Statistic) -> Float64Array:
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
        blocks = np.array(record.samples.block, np.int64)[measured]
        length = passes // max(1, len(np.unique(blocks)))
    else:
        length = _passes_per_block(passes, len(columns), record.scenario.name)
    count = passes // length if length else 0
    if count < _FEWEST_BLOCKS:
        raise InputError(
            f"{label_of(record)}: {measured.sum()} images are too few for a comparison, which needs "
            f"{_FEWEST_BLOCKS} passes through the {len(columns)} images at least",
            remedy="measure for a longer time: --seconds",
        )
    return matrix[: count * length].reshape(count, length, len(columns))


def _passes_per_block(passes: int, images: int, scenario: str) -> int:
    """Return the length of a block, so that values of different blocks hardly depend on each other."""
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


def _median_per_image(values: Float64Array) -> Float64Array:
    """Return the geometric mean over the images of the median of each: (R, passes, I) to (R,)."""
    return np.asarray(np.exp(np.log(np.median(values, axis=1)).mean(axis=1)))


def _mean(values: Float64Array) -> Float64Array:
    return np.asarray(values.mean(axis=(1, 2)))


def _quantile(share: float) -> Statistic:
    def statistic(values: Float64Array) -> Float64Array:
        return np.asarray(np.quantile(values.reshape(len(values), -1), share, axis=1))

    return statistic
