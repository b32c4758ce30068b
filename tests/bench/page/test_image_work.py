# SPDX-License-Identifier: Apache-2.0
"""The work of single images, and its critical path."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.bench.simulated import noisy, simulated_record

from foveate.bench.options import BenchOptions
from foveate.bench.page.image_work import ImageWork, critical_path, slowest_image, typical_image
from foveate.bench.record import Record
from foveate.bench.samples import Span


@pytest.fixture(scope="module")
def record() -> Record:
    return simulated_record(noisy(0), BenchOptions(seconds=10, warm_up=0, tolerance=0), images=2)


def image(processing: float, *spans: tuple[str, str, float, float]) -> ImageWork:
    return ImageWork(
        sample=0,
        name="cat.jpg",
        waiting=0.0,
        processing=processing,
        spans=tuple(
            Span(sample=0, track=track, kind=kind, name=track, start=start, duration=end - start)
            for track, kind, start, end in spans
        ),
    )


def test_the_critical_path_follows_the_work_that_ended_last() -> None:
    work = image(
        10.0,
        ("a", "network", 0.0, 4.0),
        ("b", "network", 1.0, 6.0),  # what "c" waited for
        ("c", "network", 6.0, 9.0),
        ("d", "network", 4.0, 8.5),  # ends before "c" does, so nothing waited for it
    )
    path = critical_path(work)
    assert [one.track for one in path.spans] == ["b", "c"]
    assert path.idle == pytest.approx(2.0)  # before "b" and after "c"


def test_path_and_gaps_are_the_whole_time() -> None:
    work = image(
        5.0, ("a", "read", 0.25, 1.0), ("b", "operation", 1.5, 2.0), ("c", "network", 2.0, 4.5)
    )
    path = critical_path(work)
    assert sum(one.duration for one in path.spans) + path.idle == pytest.approx(5.0)


def test_waiting_for_streams_is_not_work() -> None:
    work = image(3.0, ("caller", "wait", 0.0, 3.0), ("a", "network", 0.5, 2.5))
    assert [one.track for one in critical_path(work).spans] == ["a"]


def test_without_recorded_streams_the_calls_are_the_path() -> None:
    work = image(3.0, ("caller", "enqueue", 0.0, 1.0), ("waits", "wait", 1.0, 3.0))
    path = critical_path(work)
    assert [one.track for one in path.spans] == ["caller", "waits"]
    assert path.idle == pytest.approx(0.0)


def test_work_of_no_duration_ends_the_search() -> None:
    work = image(1.0, ("a", "network", 1.0, 1.0), ("b", "network", 1.0, 1.0))
    assert len(critical_path(work).spans) == 2


def test_the_slowest_image_is_that_of_the_tails(record: Record) -> None:
    found = slowest_image(record)
    assert found is not None
    assert found.sample == record.tails.slowest[0].sample
    assert found.processing == pytest.approx(record.tails.slowest[0].latency, abs=1e-6)
    assert critical_path(found).idle == pytest.approx(0.0, abs=1e-5)


def test_the_typical_image_is_nearest_to_the_median(record: Record) -> None:
    found = typical_image(record)
    assert found is not None
    samples, median = record.samples, record.latency.percentile(50).value
    assert median is not None
    latencies = {one.sample: samples.end[one.sample] for one in record.timeline}
    latencies = {n: end - samples.arrival[n] for n, end in latencies.items()}
    nearest = min(abs(one - median) for one in latencies.values())
    assert abs(latencies[found.sample] - median) == nearest
    assert min(one.start for one in found.spans) == pytest.approx(0.0, abs=1e-6)


def test_what_was_not_recorded_is_none(record: Record) -> None:
    bare = replace(record, timeline=(), tails=replace(record.tails, slowest=()))
    assert slowest_image(bare) is typical_image(bare) is None
