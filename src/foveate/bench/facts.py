# SPDX-License-Identifier: Apache-2.0
"""The figures of a record in words, as both the table and the page show them."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from foveate.bench.percentiles import fewest_runs
from foveate.bench.rate_ratio import HIGHEST_RATE
from foveate.bench.units import duration
from foveate.plain_text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from foveate.bench.comparison import Comparison
    from foveate.bench.figures import Distribution, Percentile, RateSearch, RateTrial
    from foveate.bench.record import Record

# What the parts of an image are, in the words of the tables.
MEANINGS = {
    "waiting": "arrival to start",
    "start to result": "the whole image",
    "reading": "decoding the file",
    "copies": "to and from the device",
    "host": "caller, before and after",
    "enqueue": "caller, starting the work",
    "sending": "handing over the request",
    "answer": "until the answer is there",
    "device": "any stream at work",
    "propose": "scores windows",
    "refine": "draws masks",
    "features": "maps for the classifier",
    "classify": "names objects",
    "resize": "shrinks the image",
    "letterbox": "fits the image to a level",
    "select_top_k": "keeps the best windows",
    "crop_features": "cuts maps of windows",
    "mask_boxes": "boxes around masks",
    "nms": "drops repeated boxes",
    "gather_boxes": "collects the kept boxes",
    "postprocess": "classes, boxes and scores",
    "take_masks": "fetches the masks",
}
LIMIT_COLUMNS = ("network", "bound by", "GFLOP", "MB", "least time", "reached")
TRIAL_COLUMNS = ("rate tried", "bound", "images", "p99", "95 % interval")

# Figures below this multiple of the floor measure the harness more than the pipeline.
_FLOOR_FACTOR = 10


def floor_of(record: Record) -> str:
    """Return what was measured as the floor."""
    if record.subject.server is not None:
        return "health checks of the server, which send no image"
    return "the same run with a pipeline that does nothing"


def title_of(record: Record) -> str:
    """Return what was measured, and how."""
    title = f"{record.subject.label}: {record.scenario.name}"
    if record.scenario.rate is not None:
        title += f" at {record.scenario.rate:.3g} images per second"
    if record.interrupted:
        title += " (interrupted: partial figures)"
    return title


def extent_of(record: Record) -> str:
    """Return how many images were measured."""
    outcome = record.outcome
    text = f"{counted(outcome.images, 'image', 'images')} after {outcome.warm_up} of warm-up"
    if outcome.throughput is not None:
        text += f", {outcome.throughput:.3g} images per second"
    return text


def too_few(record: Record) -> str | None:
    """Return what to do about too few images for a median; None if there are enough."""
    outcome, needed = record.outcome, fewest_runs(50)
    if record.latency.count >= needed:
        return None
    text = f"{counted(outcome.images, 'image is', 'images are')} too few for any percentile, which needs {needed}"
    if record.interrupted:
        return text
    if outcome.stopped != "seconds" or not outcome.throughput:
        return f"{text}: {more_images(record)}"
    seconds = 1.2 * needed / outcome.throughput
    return f"{text}: they take about {duration(seconds)}, so pass --seconds {ceil(seconds)}"


def more_images(record: Record) -> str:
    """Return how to measure more images, which depends on what ended the run."""
    remedies = {
        "count": "raise --count",
        "stable": "pass --tolerance 0, or --count",
        "interrupted": "let it run to its end",
    }
    return remedies.get(record.outcome.stopped, "raise --seconds")


def percentile_row(one: Percentile, record: Record) -> tuple[str, str, str, str]:
    """Return a percentile of the latency as name, value, interval and floor."""
    return f"p{one.percent:g}", *_value(one, record), _floor(one, record)


def parts_of(record: Record) -> dict[str, Distribution]:
    """Return the times of the parts of an image that were measured, by name."""
    parts = record.parts
    remote = record.subject.server is not None
    named = {
        "waiting": record.waiting,
        "start to result": parts.processing,
        "reading": parts.reading,
        "copies": parts.copies,
        "host": parts.host,
        "sending" if remote else "enqueue": parts.enqueue,
        "answer": parts.waiting_for_device if remote else None,
        "device": parts.device,
    }
    return {name: one for name, one in named.items() if one is not None}


def limit_rows(limits: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of ``LIMIT_COLUMNS`` for each network."""
    for stage, one in limits["stages"].items():
        line = one["roofline"] or dict.fromkeys(("bound", "least_seconds", "ratio"))
        ratio = line["ratio"]
        yield (
            stage,
            line["bound"] or "",
            f"{one['operations'] / 1e9:.3g}",
            f"{one['bytes'] / 1e6:.3g}",
            duration(line["least_seconds"]),
            "" if ratio is None else f"{ratio:.0%}",
        )


def trial_rows(search: RateSearch) -> Iterator[tuple[str, ...]]:
    """Yield the cells of ``TRIAL_COLUMNS`` for each rate that was tried."""
    verdicts = {True: "held", False: "not held", None: "not enough images"}
    for one in search.trials:
        yield (
            f"{one.rate:.3g} images/s",
            verdicts[one.held],
            f"{one.images:,}",
            *_trial_value(one),
        )


def ratio_columns(comparison: Comparison) -> tuple[str, ...]:
    """Return the columns of ``ratio_rows``."""
    confidence = comparison.confidence
    interval = "range" if confidence is None else f"{100 * confidence:g} % interval"
    return "figure", "baseline", "candidate", "ratio", interval


def ratio_rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each ratio: its figure, the figures of both sides, and its interval."""
    for one in comparison.ratios:
        figures = (one.baseline, one.candidate)
        if one.name == HIGHEST_RATE:
            texts = [f"{figure:.3g} images/s" for figure in figures]
        else:
            texts = [duration(figure) for figure in figures]
        yield one.name, *texts, f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}"


def highest_rate(search: RateSearch) -> str:
    """Return the result of a search, also of one that was interrupted."""
    rate = "none of those tried" if search.rate is None else f"{search.rate:.3g} images per second"
    text = f"{rate} with p99 of at most {duration(search.bound)}"
    return text if search.complete else f"{text} so far; the search was interrupted"


def facts_of(record: Record) -> Iterator[tuple[str, str]]:
    """Yield everything that is neither latency nor part nor limit, as names and texts."""
    resources = record.resources
    if record.search is not None:
        yield "highest rate", highest_rate(record.search)
    if record.parts.overlap is not None:
        yield "overlap", f"{record.parts.overlap:.2f} streams work at a time, on average"
    for status, one in record.refusals.items():
        largest = duration(one.largest)
        yield (
            "refused",
            f"{counted(one.count, 'image', 'images')} with the status {status}, after {largest} at most",
        )
    yield "first image", duration(record.outcome.first)
    if record.subject.server is not None and resources.copied_to_device is not None:
        sent, received = resources.copied_to_device, resources.copied_from_device or 0.0
        yield "per image", f"{sent / 1e3:.3g} kB sent, {received / 1e3:.3g} kB received"
    if resources.peak_resident_bytes is not None:
        yield "peak memory", f"{resources.peak_resident_bytes / 1e6:.0f} MB"
    if resources.joules_per_image is not None:
        yield "energy", f"{resources.joules_per_image:.2f} J per image ({resources.energy_counter})"
    yield from _accuracy(record)


def tails_of(record: Record) -> Iterator[tuple[str, str]]:
    """Yield what the slowest images have in common, as names and texts."""
    for trait in record.tails.common:
        shares = f"{trait.tail_share:.0%} of the slowest, {trait.share:.0%} of all"
        yield "slowest images", f"{trait.text} ({shares})"
    if record.tails.excess:
        name, share = next(iter(record.tails.excess.items()))
        yield "slowest images", f"{share:.0%} of their time beyond the median went to {name}"


def fitness_of(record: Record) -> str:
    """Return the verdict on the machine."""
    return "fit to publish" if record.machine.fit else "unfit to publish"


def _value(one: Percentile, record: Record) -> tuple[str, str]:
    if one.value is None or one.low is None:
        needed = fewest_runs(one.percent)
        if record.latency.count >= needed:
            return "beyond what finished", ""
        return f"not enough runs, needs {needed:,}", ""
    return duration(one.value), _interval(one)


def _trial_value(one: RateTrial) -> tuple[str, str]:
    if one.held is None:
        return "", ""
    return "beyond what finished" if one.p99 is None else duration(one.p99), _interval(one)


def _interval(one: Percentile | RateTrial) -> str:
    high = "?" if one.high is None else duration(one.high)
    return "" if one.low is None else f"{duration(one.low)} to {high}"


def _floor(one: Percentile, record: Record) -> str:
    floor = None if record.floor is None else record.floor.latency.percentile(one.percent).value
    if floor is None:
        return ""
    near = one.value is not None and one.value < _FLOOR_FACTOR * floor
    return duration(floor) + (" (near)" if near else "")


def _accuracy(record: Record) -> Iterator[tuple[str, str]]:
    """Yield average recall and precision of masks with their intervals."""
    for report in (record.accuracy or {}).values():
        for name, figure in report["figures"].items():
            if figure["value"] is not None and name.startswith("mask A"):
                yield name, f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
