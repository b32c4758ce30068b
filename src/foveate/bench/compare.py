# SPDX-License-Identifier: Apache-2.0
"""The comparison of two records: whether they can be compared, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from foveate.bench.comparison import Comparison, Ratio
from foveate.bench.rate_ratio import HIGHEST_RATE, ratio_of_rates
from foveate.bench.ratios import LATENCY, PER_IMAGE, CompareOptions, ratios_of
from foveate.errors import InputError
from foveate.plain_text import counted

if TYPE_CHECKING:
    from foveate.bench.record import Record


def compare(
    baseline: Record,
    candidate: Record,
    options: CompareOptions | None = None,
    *,
    paired: bool = False,
) -> Comparison:
    """Compare two records, of which ``paired`` ones were measured in turns.

    A ratio above 1 means that the candidate is slower. The decisive ratio is that of the median
    latency per image, averaged over the images; in the scenario "offline" it is that of the time
    per image, the inverse of the throughput. Of two searches for a rate, the only ratio is that of
    the highest rates, which is above 1 if the candidate holds a higher one.

    Raises:
        InputError: The scenarios or the images differ, there are too few images, or their values
            are missing; or a search for a rate did not find the highest one.
    """
    options = options or CompareOptions()
    _check_comparable(baseline, candidate)
    searched = baseline.scenario.p99 is not None
    if searched:
        ratios: tuple[Ratio, ...] = (ratio_of_rates(baseline, candidate),)
        name = HIGHEST_RATE
    else:
        for one in (baseline, candidate):
            _check_values(one)
        ratios = ratios_of(baseline, candidate, options, paired=paired)
        name = PER_IMAGE if baseline.scenario.name == "offline" else LATENCY
    decisive = next(one for one in ratios if one.name == name)
    return Comparison(
        baseline=baseline.subject.label,
        candidate=candidate.subject.label,
        paired=paired,
        confidence=None if searched else options.confidence,
        tolerance=options.tolerance,
        decisive=name,
        verdict=_verdict(baseline, candidate, decisive, options.tolerance),
        ratios=ratios,
        warnings=tuple(_warnings(baseline, candidate)),
    )


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
            remedy="measure both with the same images",
        )
    searched = [one.scenario.p99 is not None for one in (baseline, candidate)]
    if searched[0] != searched[1]:
        raise InputError(
            "one record is of a search for the highest rate, and the other of a fixed rate",
            remedy="measure both with --p99, or both with the same --rate",
        )
    if not searched[0] and baseline.scenario.rate != candidate.scenario.rate:
        raise InputError(
            f"the rates differ: {baseline.scenario.rate} and {candidate.scenario.rate} per second",
            remedy="measure both with the same --rate",
        )


def _check_values(record: Record) -> None:
    if record.outcome.images and not record.samples.input:
        raise InputError(
            f"the record of {record.subject.label} has no raw values, which its page had no room for",
            remedy="pass the file of --json",
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
        if record.outcome.refused:
            refused = counted(record.outcome.refused, "image", "images")
            yield f"the {name} refused {refused}, whose latency is not known"
        if record.outcome.rate_held is False:
            yield f"the {name} did not keep up with the rate of arrivals"
    if baseline.scenario.p99 is not None:
        yield (
            "a highest rate has no confidence interval, so there is no verdict: the range is that of "
            "the rates tried, and searches of one pipeline may differ by more. For a verdict, measure "
            "both with the same --rate"
        )
    if baseline.scenario.in_flight != candidate.scenario.in_flight:
        yield "the numbers of images in flight differ"


def _verdict(baseline: Record, candidate: Record, ratio: Ratio, tolerance: float) -> str:
    if ratio.name == HIGHEST_RATE:
        return "not decided"
    if baseline.outcome.rate_held and candidate.outcome.rate_held is False:
        return "slower"
    if ratio.low > 1 + tolerance:
        return "slower"
    return "faster" if ratio.high < 1 - tolerance else "no difference shown"
