# SPDX-License-Identifier: Apache-2.0
"""The page of a record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foveate.bench.facts import fitness_of, title_of
from foveate.bench.page.answers import answers
from foveate.bench.page.embedding import embed
from foveate.bench.page.image_work import slowest_image, typical_image
from foveate.bench.page.latencies import course, percentile_curves
from foveate.bench.page.markup import paragraph, safe, section
from foveate.bench.page.rooflines import rooflines
from foveate.bench.page.stages import stage_bars
from foveate.bench.page.styles import Styles
from foveate.bench.page.tables import comparison, configuration, machine, search, tails
from foveate.bench.page.timelines import timelines

if TYPE_CHECKING:
    from foveate.bench.advice import Command
    from foveate.bench.record import Record

LARGEST = 150_000  # bytes of a page
_STYLE = Path(__file__).with_name("page.css")
# Nothing of the page may load anything or run.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page_of(record: Record, command: Command) -> str:
    """Return a record as one HTML page, which needs no other file and no network.

    The record itself is in the page, as JSON. Values for which there is no room are left out, and
    the page says which.

    Args:
        record: The record.
        command: The command that measured it, which the page repeats with changes.

    Returns:
        The page, which has at most 150,000 bytes.
    """
    styles = Styles(record)
    parts = (
        answers(record, styles, command),
        percentile_curves(record),
        stage_bars(record, styles),
        timelines(record, styles),
        rooflines(record, styles),
        comparison(record),
        search(record),
        course(record),
        tails(record),
        machine(record),
        configuration(record),
    )
    head, body = _head(record), "\n".join(one for one in parts if one)
    images = (typical_image(record), slowest_image(record))
    drawn = {one.sample for one in images if one is not None}
    start = f"{head}<main>\n{body}\n"
    room = LARGEST - len(start.encode()) - 1000  # for what follows
    element, missing = embed(record, room, drawn=drawn)
    return f"{start}{_data(missing)}</main>\n{element}\n</body>\n</html>\n"


def _head(record: Record) -> str:
    title = safe(title_of(record))
    style = _STYLE.read_text("utf-8")
    fit = "good" if record.machine.fit else "bad"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{title} - foveate bench</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="eyebrow">foveate bench</p>
<h1>{title}</h1>
<p><span class="badge {fit}">{fitness_of(record)}</span> {safe(_origin(record))}</p>
</header>
"""


def _origin(record: Record) -> str:
    processor = record.machine.processor.name
    device = processor if record.machine.gpu is None else record.machine.gpu.name
    created = record.created.replace("T", " ").replace("+00:00", " UTC")
    return f"{device}, {created}, Foveate {record.foveate}"


def _data(missing: str) -> str:
    text = "The whole record is in this page, as JSON: foveate bench compare reads the page."
    if missing:
        text = (
            f"For its size, this page lacks {missing}. The file that --json writes has everything."
        )
    return section("data", "Data", paragraph(text))
