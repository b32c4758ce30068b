# SPDX-License-Identifier: Apache-2.0
"""What is slow, why, and what to try: the figures of a record as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.bench.advice import NEAR, Command, search_command
from foveate.bench.facts import highest_rate, percentile_row, tails_of, too_few
from foveate.bench.page.image_work import critical_path, typical_image
from foveate.bench.page.markup import bullets, code, paragraph, safe, strong
from foveate.bench.page.stages import bars_of
from foveate.bench.page.styles import Styles
from foveate.bench.page.timelines import path_shares, share_bar
from foveate.bench.units import duration, flops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foveate.bench.record import Record

_NAMED = 3  # parts that a sentence names
_WORTH = 0.05  # of the time, from which on a part is named


def answers(record: Record, styles: Styles, command: Command) -> str:
    """Return the three answers as the first part of the page."""
    cards = (
        ("What is slow", bullets(_slow(record)) + _typical(record, styles)),
        ("Why", bullets(_why(record))),
        ("What to try", _tries(record, command)),
    )
    body = "".join(f"<article><h2>{title}</h2>{content}</article>" for title, content in cards)
    return f'<section id="answers" class="answers" aria-label="Answers">{body}</section>'


def _slow(record: Record) -> Iterator[str]:
    outcome, scenario = record.outcome, record.scenario
    median, high = (record.latency.percentile(one).value for one in (50, 90))
    if record.search is not None:
        yield f"Highest rate: {strong(highest_rate(record.search))}."
    if outcome.rate_held is False and outcome.throughput is not None:
        text = (
            f"The pipeline does not keep up: {scenario.rate:.3g} images arrive per second, "
            f"{outcome.throughput:.3g} are finished, {outcome.unstarted:,} were never started"
        )
        yield text + (f", {outcome.refused:,} were refused." if outcome.refused else ".")
    elif (few := too_few(record)) is not None:
        yield safe(f"{few}.")
    if median is not None:
        _, value, interval, _ = percentile_row(record.latency.percentile(50), record)
        text = f"Half of the images take at most {strong(value)} (95 % interval {interval})"
        yield text + (f", nine of ten at most {duration(high)}." if high is not None else ".")
    if scenario.name == "offline" and outcome.throughput is not None:
        yield f"The pipeline finishes {outcome.throughput:.3g} images per second."
    waiting = record.waiting.median or 0.0
    if scenario.name == "server" and median is not None and waiting > _WORTH * median:
        share = f"{waiting / median:.0%}"
        yield f"An image waits {duration(waiting)} ({share}) before the pipeline takes it."
    yield from _largest_parts(record)


def _largest_parts(record: Record) -> Iterator[str]:
    whole = record.parts.processing.median
    named = [one for one in bars_of(record)[:_NAMED] if whole and one.median >= _WORTH * whole]
    if not whole or not named:
        return
    first, *others = named
    text = f"{strong(first.name)} takes most: {duration(first.median)}, {first.median / whole:.0%}"
    text += f" of the {duration(whole)} from start to result"
    rest = (f"{strong(one.name)} ({one.median / whole:.0%})" for one in others)
    yield ", then ".join([text, *rest]) + "."


def _typical(record: Record, styles: Styles) -> str:
    image = typical_image(record)
    if image is None:
        return ""
    shares = path_shares(critical_path(image), image.processing)
    text = f"The {duration(image.processing)} of a typical image, {image.name}:"
    return paragraph(text, "note") + share_bar(shares, styles)


def _why(record: Record) -> Iterator[str]:
    if not record.machine.fit:
        reasons = safe("; ".join(record.machine.reasons))
        yield f"The machine was not quiet, so times may be too long: {reasons}."
    yield from _limits(record)
    overlap = record.parts.overlap
    if overlap is not None and overlap > 1 + _WORTH:
        yield f"Parts of an image run side by side: on average, {overlap:.2f} streams work at a time."
    for _, text in tails_of(record):
        yield f"Slowest images: {safe(text)}."


def _limits(record: Record) -> Iterator[str]:
    if record.subject.server is not None:
        yield "A server does not report the times of its networks."
        return
    if record.limits is None:
        yield f"What the machine allows was not measured: {strong('--limits')} does."
        return
    for part in [one for one in bars_of(record) if one.kind == "network"][:_NAMED]:
        line = record.limits["stages"].get(part.name, {}).get("roofline")
        if line is None or line["ratio"] is None:
            continue
        text = (
            f"{strong(part.name)} reaches {line['ratio']:.0%} of what the {line['bound']} of this "
        )
        text += "machine allows"
        if line["bound"] == "arithmetic":
            text += f" ({flops(line['reached'])} of {flops(line['compute_ceiling'])})"
        if line["ratio"] < NEAR:
            yield f"{text}: run in a better way, it could be up to {1 / line['ratio']:.2g} times as fast."
        else:
            yield f"{text}: only less work makes it much faster."


def _tries(record: Record, command: Command) -> str:
    tries = list[str]()
    processing = record.parts.processing.median
    if record.outcome.rate_held is False and processing is not None and record.search is None:
        found = code(search_command(command, 2 * processing))
        tries.append(f"Search for the highest rate that the pipeline holds. {found}")
    tries += [f"{safe(one.text)} {code(one.command)}" for one in record.advice or ()]
    if record.limits is None and record.subject.server is None:
        found = code(command.changed({"--limits": ""}))
        tries.append(f"Measure what the machine allows, which gives advice. {found}")
    return bullets(tries) or paragraph("Nothing stands out in the figures.")
