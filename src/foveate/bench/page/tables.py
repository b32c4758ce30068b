# SPDX-License-Identifier: Apache-2.0
"""The parts of the page that are tables: tails, machine, comparison and configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foveate.bench.facts import (
    TRIAL_COLUMNS,
    facts_of,
    fitness_of,
    highest_rate,
    ratio_columns,
    ratio_rows,
    tails_of,
    trial_rows,
)
from foveate.bench.page.markup import bullets, details, facts, paragraph, safe, section, table
from foveate.bench.page.scales import linear_scale
from foveate.bench.page.svg import Chart
from foveate.bench.percentiles import fewest_runs
from foveate.bench.units import duration
from foveate.plain_text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foveate.bench.comparison import Comparison
    from foveate.bench.record import Record, Server, Subject

_RATIO_ROW = 42  # pixels
_MOST_INPUTS = 50  # images that are listed
_PARTS = 3  # that are named of each of the slowest images
_ENDS = {
    "stable": "the percentile was stable",
    "seconds": "the time was over",
    "count": "the number of images was reached",
    "interrupted": "interrupted",
}


def tails(record: Record) -> str:
    """Return the slowest images, and what they have in common."""
    slowest, median = record.tails.slowest, record.latency.median
    if not slowest:
        return ""
    rows = []
    for one in slowest:
        image = record.inputs[one.input]
        times = f"{one.latency / median:.2f}" if median else ""
        beyond = ", ".join(
            f"{name} +{duration(part)}" for name, part in list(one.excess.items())[:_PARTS]
        )
        size = f"{image.width} x {image.height}"
        rows.append((image.name, beyond, size, duration(one.latency), times))
    head = ("image", "parts beyond their medians", "size", "latency", "times the median")
    common = bullets(safe(text) for _, text in tails_of(record))
    return section("tails", "The slowest images", common, table(head, rows, texts=2))


def machine(record: Record) -> str:
    """Return the state of the machine, and the verdict on it."""
    found = record.machine
    verdict = f"The figures are {fitness_of(record)}"
    verdict += "." if found.fit else ", since they may depend on more than the pipeline."
    reasons = bullets(map(safe, found.reasons))
    return section(
        "machine",
        "The machine",
        paragraph(verdict, "good" if found.fit else "bad"),
        reasons,
        facts(_machine(record)),
    )


def comparison(record: Record) -> str:
    """Return the comparison with the pipeline that was measured in turns, if there was one."""
    if record.against is None or record.against.comparison is None:
        return ""
    found = record.against.comparison
    text = f"{found.candidate} against {found.baseline}: {found.verdict}, by the {found.decisive}."
    return section(
        "comparison",
        "Comparison",
        paragraph(text),
        bullets(map(safe, found.warnings)),
        _ratios(found),
        table(ratio_columns(found), ratio_rows(found)),
    )


def _ratios(found: Comparison) -> str:
    """Return the intervals of the ratios as a chart with a line at 1."""
    low = min(1.0, *(one.low for one in found.ratios))
    high = max(1.0, *(one.high for one in found.ratios))
    room = 0.1 * (high - low)
    x = linear_scale(high + room, low=low - room)
    height = _RATIO_ROW * len(found.ratios)
    chart = Chart("Ratios with intervals", height=height, x=x)
    chart.x_axis("{:.3g}".format)
    thin = 0.01 * room
    chart.rect(1.0 - thin, 1.0 + thin, top=0, height=height, style="roof")
    for number, one in enumerate(found.ratios):
        top, title = _RATIO_ROW * number, f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
        chart.row_label(top + 14, one.name)
        chart.rect(one.low, one.high, top=top + 24, height=4, style="c0", title=title)
        left, right = one.value - thin, one.value + thin
        chart.rect(left, right, top=top + 19, height=14, style="c0", title=title)
    note = "Above 1 the candidate takes longer. Bars are intervals, marks the ratios."
    return chart.svg() + paragraph(note, "note")


def search(record: Record) -> str:
    """Return the rates that a search tried, if there was one."""
    if record.search is None:
        return ""
    notes = [f"Highest rate: {highest_rate(record.search)}."]
    if any(one.held is None for one in record.search.trials):
        needed = record.scenario.count or fewest_runs(99)
        notes.append(
            f"Each rate needs {needed:,} images for its 99th percentile. At a rate with not enough "
            f"images, they do not arrive in the {record.scenario.seconds:g} s of --seconds."
        )
    rows = table(TRIAL_COLUMNS, trial_rows(record.search), texts=2)
    return section("search", "The search for a rate", *map(paragraph, notes), rows)


def configuration(record: Record) -> str:
    """Return what was measured and how: the configuration and where the figures come from."""
    inputs = [
        (
            one.name,
            f"{one.width} x {one.height}",
            _text(one.levels, "{}"),
            _text(one.windows, "{:,}"),
            one.sha256[:12],
        )
        for one in record.inputs[:_MOST_INPUTS]
    ]
    head = ("image", "size", "levels", "windows", "SHA-256")
    more = len(record.inputs) - len(inputs)
    note = paragraph(f"{more:,} more images are in the record.", "note") if more > 0 else ""
    return section(
        "configuration",
        "Configuration and provenance",
        facts([*_subject(record), *_scenario(record), *facts_of(record)]),
        details(counted(len(record.inputs), "image", "images"), table(head, inputs) + note),
    )


def _machine(record: Record) -> Iterator[tuple[str, str]]:
    found, processor = record.machine, record.machine.processor
    yield "processor", f"{processor.name}, {processor.cores} cores"
    yield "system", f"{found.system}, Python {found.python}"
    load = (processor.load_before, processor.load_after)
    yield "load average", " before, ".join(_text(one, "{:.1f}") for one in load) + " after"
    yield "other processes", _text(processor.others, "{:.0%} of the processor")
    yield "hypervisor", _text(processor.steal, "{:.0%} of the processor")
    yield "governor", _text(processor.governor, "{}")
    if processor.lowest_mhz is not None and processor.highest_mhz is not None:
        yield "clock", f"{processor.lowest_mhz:.0f} to {processor.highest_mhz:.0f} MHz"
    yield "throttled", _text(processor.throttled, "{} times by heat")
    yield "stopped by the quota", _text(processor.quota_throttled, "{} periods")
    yield "context switches", _text(processor.switches, "{:,} involuntary")
    if found.gpu is not None:
        gpu = found.gpu
        yield "GPU", f"{gpu.name}, driver {_text(gpu.driver, '{}')}"
        yield (
            "clock of the GPU",
            f"{_text(gpu.clock_mhz, '{}')} of {_text(gpu.highest_mhz, '{} MHz')}",
        )
        yield "temperature of the GPU", _text(gpu.celsius, "{} °C")
        yield "users of the GPU", _text(gpu.others, "{} other processes")


def _subject(record: Record) -> Iterator[tuple[str, str]]:
    subject = record.subject
    yield from _pipeline(subject) if subject.server is None else _server(subject.server)
    yield "Foveate", record.foveate
    if subject.server is None:
        yield "versions", ", ".join(f"{name} {one}" for name, one in subject.versions.items())
    yield "end of the run", record.created


def _pipeline(subject: Subject) -> Iterator[tuple[str, str]]:
    yield "bundle", subject.bundle
    yield "digest of the bundle", _text(subject.digest, "{}")
    yield "device", _text(subject.device, "{}")
    yield "backend", _text(subject.backend, "{}")
    yield "precision", ", ".join(f"{stage} {one}" for stage, one in subject.precision.items())
    yield "threads", f"{subject.threads} per network" if subject.threads else "default"
    if subject.options:
        yield "options", ", ".join(f"{name} = {value}" for name, value in subject.options.items())


def _server(server: Server) -> Iterator[tuple[str, str]]:
    about, model = server.metadata, server.model
    yield "server", f"{about.name} {about.version} at {server.url}"
    yield "model", f"{model.name}, versions {', '.join(model.versions) or 'unknown'}"
    yield "platform", model.platform
    yield "input", f"{server.input}, as {'bytes' if server.binary else 'JSON'}"
    yield "outputs", ", ".join(server.outputs)
    yield "timeout", f"{server.timeout:g} s"


def _scenario(record: Record) -> Iterator[tuple[str, str]]:
    scenario, outcome = record.scenario, record.outcome
    yield "scenario", scenario.name
    if scenario.rate is not None:
        held = {True: "held", False: "not held", None: "not known whether it was held"}
        rate = f"{scenario.rate:.3g} images per second, seed {scenario.seed}"
        yield "rate", f"{rate}, {held[outcome.rate_held]}"
    yield "images in flight", f"{scenario.in_flight}"
    yield "reading of files", "a part of the latency" if scenario.decoding else "before the run"
    yield "end of the measurement", f"{_ENDS[outcome.stopped]}, after {duration(outcome.elapsed)}"
    if outcome.unstarted:
        yield "never started", counted(outcome.unstarted, "image", "images")
    if outcome.load is not None:
        yield "loading", duration(outcome.load)


def _text(value: Any, form: str) -> str:
    return "not measured" if value is None else form.format(value)
