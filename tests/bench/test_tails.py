# SPDX-License-Identifier: Apache-2.0
"""The slowest images and what they have in common, with a planted cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.bench.simulated import inputs

from foveate.bench.collecting import SLOWEST, TIMELINE, Collection
from foveate.bench.samples import Tails
from foveate.bench.scenarios import Sample
from foveate.bench.tails import describe_tails
from foveate.tracing.image_trace import ImageTrace, Work


def collect(
    times: list[dict[str, float]], *, images: int = 1, keep_traces: bool = False
) -> Collection:
    """Collect images by the times of their parts; "waiting" is that before the start."""
    collection, now = Collection(keep_traces=keep_traces), 0.0
    for number, parts in enumerate(times):
        trace = ImageTrace()
        start = now = now + parts.get("waiting", 0.0)
        for name, seconds in parts.items():
            if name not in ("waiting", "switches"):
                work = Work("network", name, "slot 0, stream 0")
                work.start, work.end = now, now + seconds
                trace.work.append(work)
                now += seconds
        sample = Sample(
            index=number % images,
            worker=0,
            arrival=start - parts.get("waiting", 0.0),
            start=start,
            end=now,
            trace=trace,
        )
        switches = int(parts.get("switches", 0))
        collection.add(sample, warm_up=False, block=None, switches=switches)
    return collection


def steady(count: int, **parts: float) -> list[dict[str, float]]:
    generator = np.random.default_rng(0)
    return [
        {name: seconds * float(generator.lognormal(0, 0.01)) for name, seconds in parts.items()}
        for _ in range(count)
    ]


def texts(tails: Tails) -> list[str]:
    return [one.text for one in tails.common]


def test_the_slowest_come_first() -> None:
    collection = collect(steady(200, propose=1.0))
    tails = describe_tails(collection, inputs(1))
    latencies = sorted((row.sample.latency for row in collection.rows), reverse=True)
    assert [one.latency for one in tails.slowest] == latencies[:10]
    assert all(one.trace[0].start == 0.0 for one in tails.slowest)


def test_steady_images_have_nothing_in_common() -> None:
    assert texts(describe_tails(collect(steady(300, propose=1.0), images=3), inputs(3))) == []


def test_the_stage_that_took_longer_is_named() -> None:
    times = steady(200, propose=1.0, refine=0.5)
    for number in range(20, 200, 18):
        times[number]["refine"] += 2.0
    tails = describe_tails(collect(times), inputs(1))
    name, share = next(iter(tails.excess.items()))
    assert (name, round(share, 2)) == ("refine", 1.0)
    assert next(iter(tails.slowest[0].excess)) == "refine"


def test_a_size_that_takes_longer_is_named() -> None:
    times = steady(200, propose=1.0)
    for number in range(3, 200, 20):
        times[number]["propose"] += 1.0
    tails = describe_tails(collect(times, images=20), inputs(20))
    # The image is the only one of its size, so one property stands for both.
    assert texts(tails) == ["size 67x48"]
    assert tails.common[0].tail_share == 1.0
    assert tails.common[0].share == pytest.approx(0.05)


def test_context_switches_are_named() -> None:
    times = steady(200, propose=1.0)
    for number in range(5, 200, 20):
        times[number] |= {"propose": 2.0, "switches": 9.0}
    assert texts(describe_tails(collect(times), inputs(1))) == [
        "more context switches than nine of ten images"
    ]


def test_the_position_in_the_run_is_named() -> None:
    times = steady(200, propose=1.0)
    for number in range(10):
        times[190 + number]["propose"] = 2.0
    assert texts(describe_tails(collect(times), inputs(1))) == ["in the last tenth of the run"]


def test_waiting_is_named() -> None:
    times = steady(200, propose=1.0)
    for number in range(5, 200, 20):
        times[number]["waiting"] = 3.0
    tails = describe_tails(collect(times), inputs(1))
    assert texts(tails) == ["waited for more than half of its time"]
    assert next(iter(tails.excess)) == "waiting"


def test_a_run_without_images_has_no_tails() -> None:
    assert describe_tails(Collection(), ()) == Tails(slowest=(), common=(), excess={})


@pytest.mark.parametrize("keep", [False, True])
def test_only_some_traces_are_kept(keep: bool) -> None:
    collection = collect(steady(300, propose=1.0), keep_traces=keep)
    assert len(collection.traced) == 300 if keep else len(collection.traced) <= SLOWEST + TIMELINE
    assert set(collection.slowest) <= set(collection.traced)
    assert collection.timeline == list(range(TIMELINE))
    assert {span.sample for span in collection.spans([3, 4], 0.0)} == {3, 4}


def test_the_work_of_an_image_is_that_of_its_streams_and_of_its_worker_in_order() -> None:
    trace = ImageTrace(launched=11.0, enqueued=11.1, waited=11.3, done=11.5)
    for start, end, track in ((11.2, 11.45, "slot 0, stream 1"), (10.5, 10.75, "host")):
        work = Work("network", "propose", track)
        work.start, work.end = start, end
        trace.work.append(work)
    sample = Sample(index=3, worker=2, arrival=10.0, start=10.5, end=11.6, trace=trace)
    collection = Collection()
    collection.add(sample, warm_up=False, block=None, switches=None)
    assert collection.rows[0].sample.trace is None  # the traces of all images may be large
    spans = collection.spans([0], 10.0)
    assert [(one.track, one.kind, one.start, one.duration) for one in spans] == [
        ("worker 2", "network", 0.5, 0.25),
        ("worker 2", "enqueue", 1.0, 0.1),
        ("slot 0, stream 1", "network", 1.2, 0.25),
        ("worker 2", "wait", 1.3, 0.2),
    ]


def test_a_copy_does_not_change_when_images_are_added() -> None:
    collection = collect(steady(30, propose=1.0))
    copied = collection.copy()
    before = copied.slowest, copied.timeline, copied.traced, len(copied.rows)
    for row in collect(steady(30, propose=2.0)).rows:
        sample = replace(row.sample, trace=ImageTrace())
        collection.add(sample, warm_up=False, block=None, switches=None)
    assert (copied.slowest, copied.timeline, copied.traced, len(copied.rows)) == before
    assert len(collection.rows) == 60
    assert collection.slowest != copied.slowest


def test_an_excess_is_beyond_the_median_of_all_images_and_has_five_parts() -> None:
    # Most images have no part "rare", so that its median is 0.
    times = steady(100, **{f"part {k}": 1.0 for k in range(7)})
    times[50] |= {"rare": 4.0, "part 0": 0.1} | {f"part {k}": 1.0 + k / 2 for k in range(1, 7)}
    slowest = describe_tails(collect(times), inputs(1)).slowest[0]
    assert slowest.sample == 50
    assert list(slowest.excess) == ["rare", "part 6", "part 5", "part 4", "part 3"]
    assert list(slowest.excess.values()) == pytest.approx([4.0, 3.0, 2.5, 2.0, 1.5], abs=0.05)


def test_a_part_that_took_less_has_no_excess() -> None:
    times = steady(100, propose=1.0, refine=1.0)
    times[50] = {"propose": 3.0, "refine": 0.5}
    assert list(describe_tails(collect(times), inputs(1)).slowest[0].excess) == ["propose"]


def test_waiting_for_the_result_counts_where_the_work_is_not_recorded() -> None:
    def tails(*work: Work) -> Tails:
        collection = Collection()
        for number in range(20):
            end = number + (0.9 if number == 7 else 0.5)
            trace = ImageTrace(
                launched=number, enqueued=number + 0.1, waited=number + 0.1, done=end
            )
            for one in work:
                one.start, one.end = number + 0.1, end
                trace.work.append(Work(one.kind, one.name, one.track, one.start, one.end))
            sample = Sample(index=0, worker=0, arrival=number, start=number, end=end, trace=trace)
            collection.add(sample, warm_up=False, block=None, switches=None)
        return describe_tails(collection, inputs(1))

    assert list(tails().slowest[0].excess) == ["waiting for the result"]
    recorded = tails(Work("network", "propose", "slot 0, stream 0"))
    assert list(recorded.slowest[0].excess) == ["propose"]


def test_what_fewer_than_most_of_the_slowest_have_is_not_common() -> None:
    times = steady(200, propose=1.0)
    # All four images of one size, and six of the 196 others.
    for number in (3, 53, 103, 153, 20, 41, 75, 96, 132, 167):
        times[number]["propose"] = 2.0
    assert texts(describe_tails(collect(times, images=50), inputs(50))) == []


@pytest.mark.parametrize(
    ("first", "named"),
    [
        (5, ["in the first tenth of the run"]),
        (20, []),
        (165, []),
        (180, ["in the last tenth of the run"]),
    ],
)
def test_only_the_ends_of_the_run_are_named(first: int, named: list[str]) -> None:
    times = steady(200, propose=1.0)
    for number in range(first, first + 10):
        times[number]["propose"] = 2.0
    assert texts(describe_tails(collect(times), inputs(1))) == named


def test_context_switches_of_more_than_a_tenth_of_the_images_are_not_named() -> None:
    times = steady(200, propose=1.0)
    for number in range(30, 180, 5):
        times[number]["switches"] = 9.0
    for number in range(30, 180, 15):
        times[number]["propose"] = 2.0
    assert texts(describe_tails(collect(times), inputs(1))) == []
