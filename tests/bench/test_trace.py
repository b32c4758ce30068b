# SPDX-License-Identifier: Apache-2.0
"""Traces for Perfetto and Chrome's trace viewer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.bench.simulated import noisy, run_benchmark, simulated_record

from foveate.bench.collecting import columns
from foveate.bench.options import BenchOptions
from foveate.bench.samples import Span
from foveate.bench.trace import chrome_trace

Event = dict[str, Any]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Events of a server whose images take 1 s each and arrive at a rate of 1 per second."""
    options = BenchOptions(scenario="server", rate=1, seconds=20, warm_up=0, keep_spans=True)
    run = run_benchmark(lambda _: 1.0, options)
    spans = run.collection.spans(run.collection.traced, run.origin)
    document = chrome_trace(spans, columns(run.collection.rows, run.origin), ["cat.jpg"])
    assert document["displayTimeUnit"] == "ms"
    found: list[Event] = json.loads(json.dumps(document))["traceEvents"]
    return found


def of(events: list[Event], phase: str) -> list[Event]:
    return [one for one in events if one["ph"] == phase]


def test_tracks_have_names(events: list[Event]) -> None:
    assert {one["args"]["name"] for one in of(events, "M")} == {"slot 0, stream 0", "worker 0"}


def test_work_has_its_times_in_microseconds(events: list[Event]) -> None:
    works = [one for one in of(events, "X") if one["name"] == "propose"]
    assert len(works) > 10
    assert all(one["dur"] == pytest.approx(600_000) for one in works)
    assert works[0]["args"] == {"sample": 1, "image": "cat.jpg"}  # sample 0 is of the warm-up


def test_an_arrow_leads_from_the_call_to_the_first_work(events: list[Event]) -> None:
    starts, ends = of(events, "s"), of(events, "f")
    assert [one["id"] for one in starts] == [one["id"] for one in ends]
    tracks = {one["tid"]: one["args"]["name"] for one in of(events, "M")}
    assert {tracks[one["tid"]] for one in starts} == {"worker 0"}
    assert {tracks[one["tid"]] for one in ends} == {"slot 0, stream 0"}


def test_a_span_has_its_time_its_track_and_the_name_of_its_image() -> None:
    def span(kind: str, name: str, track: str, start: float) -> Span:
        return Span(sample=1, track=track, kind=kind, name=name, start=start, duration=0.05)

    options = BenchOptions(count=2, warm_up=0)
    samples = replace(simulated_record(noisy(0), options, images=2).samples, input=(1, 0))
    spans = (
        span("operation", "letterbox", "slot 0, stream 1", 0.25),
        span("network", "propose", "slot 0, stream 0", 0.125),
        span("enqueue", "enqueue", "worker 3", 0.0625),
    )
    events = chrome_trace(spans, samples, ["cat.jpg", "dog.jpg"])["traceEvents"]
    tracks = {one["args"]["name"]: one["tid"] for one in of(events, "M")}
    assert tracks == {"slot 0, stream 0": 1, "slot 0, stream 1": 2, "worker 3": 3}
    works = {one["name"]: (one["tid"], one["ts"], one["args"]) for one in of(events, "X")}
    image = {"sample": 1, "image": "cat.jpg"}
    assert works["letterbox"] == (2, 250_000, image)
    assert works["propose"] == (1, 125_000, image)
    ((start, end),) = zip(of(events, "s"), of(events, "f"), strict=True)
    assert (start["tid"], start["ts"], end["tid"], end["ts"]) == (3, 62_500, 1, 125_000)


def test_counters_return_to_zero(events: list[Event]) -> None:
    counts = [one["args"] for one in of(events, "C")]
    assert counts[-1] == {"waiting": 0, "in flight": 0}
    assert max(one["waiting"] for one in counts) > 1
    assert max(one["in flight"] for one in counts) == 1
    assert min(value for one in counts for value in one.values()) == 0
