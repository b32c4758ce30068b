# SPDX-License-Identifier: Apache-2.0
"""The tables of a record."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from rich.console import Console
from rich.table import Table
from tests.bench.page.reports import limits
from tests.bench.simulated import noisy, simulated_record

from foveate.bench.facts import limit_rows, too_few
from foveate.bench.figures import Floor, RateSearch, RateTrial
from foveate.bench.options import BenchOptions
from foveate.bench.percentiles import distribution
from foveate.bench.record import Record, Server
from foveate.bench.samples import Trait
from foveate.bench.table import tables_of
from foveate.bench.units import duration
from foveate.protocol.client import ModelMetadata, ServerMetadata


@pytest.fixture(scope="module")
def record() -> Record:
    return simulated_record(noisy(0), BenchOptions(seconds=10, warm_up=0, tolerance=0))


def text_of(*tables: Table) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return captured.get()


def row_of(record: Record, name: str) -> list[str]:
    lines = text_of(*tables_of(record)).splitlines()
    line = next(line for line in lines if name in line.split("│")[min(1, line.count("│"))])
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_percentile_has_its_interval(record: Record) -> None:
    one = record.latency.percentile(50)
    expected = [duration(one.value), f"{duration(one.low)} to {duration(one.high)}"]
    assert row_of(record, "p50") == ["p50", *expected, ""]


def test_a_percentile_without_enough_runs_states_how_many_it_needs(record: Record) -> None:
    assert row_of(record, "p99.9")[1] == "not enough runs, needs 3,688"


def test_the_time_that_enough_images_take_is_estimated() -> None:
    few = simulated_record(lambda _: 10.0, BenchOptions(seconds=25, warm_up=0))
    assert too_few(few) == (
        "3 images are too few for any percentile, which needs 6: they take about 72 s, so pass "
        "--seconds 72"
    )
    enough = simulated_record(lambda _: 10.0, BenchOptions(count=6, warm_up=0))
    assert too_few(enough) is None
    assert too_few(replace(few, interrupted=True)) == (
        "3 images are too few for any percentile, which needs 6"
    )


def test_a_part_is_explained_in_a_few_words(record: Record) -> None:
    assert row_of(record, "refine")[-1] == "draws masks"


def test_the_rates_of_a_search_are_listed(record: Record) -> None:
    held = RateTrial(rate=3.21, images=368, p99=0.4, low=0.3, high=0.45, held=True)
    missed = RateTrial(rate=4.8, images=200, p99=None, low=0.9, high=None, held=False)
    short = RateTrial(rate=0.1, images=0, p99=None, low=None, high=None, held=None)
    search = RateSearch(bound=0.5, rate=3.21, trials=(held, missed, short), complete=False)
    partial = replace(record, search=search)
    text = text_of(*tables_of(partial))
    assert "rates tried for a p99 of at most 500 ms" in text
    assert "3.21 images per second with p99 of at most 500 ms so far; the search was int" in text
    expected = {
        "3.21 images/s": ["held", "368", "400 ms", "300 ms to 450 ms"],
        "4.8 images/s": ["not held", "200", "beyond what finished", "900 ms to ?"],
        "0.1 images/s": ["not enough images", "0", "", ""],
    }
    for rate, cells in expected.items():
        assert row_of(partial, rate) == [rate, *cells]


def test_a_percentile_among_images_that_never_started_is_beyond_the_others(record: Record) -> None:
    late = replace(record, latency=distribution([0.1] * 50, unstarted=50))
    assert row_of(late, "p90")[1] == "beyond what finished"
    assert row_of(late, "p50")[2].endswith("to ?")
    none = replace(record, latency=distribution([], unstarted=6))
    assert row_of(none, "p50")[1] == "beyond what finished"


def test_a_figure_near_the_floor_is_marked(record: Record) -> None:
    near, far = (
        Floor(rate=None, latency=distribution([seconds] * 40), share=None)
        for seconds in (0.02, 0.001)
    )
    assert row_of(replace(record, floor=near), "p50")[3] == "20 ms (near)"
    assert row_of(replace(record, floor=far), "p50")[3] == "1 ms"


def test_the_head_names_the_scenario_and_an_interruption(record: Record) -> None:
    assert text_of(*tables_of(record)).startswith("simulated fp32, onnxruntime on cpu: single-")
    partial = replace(record, interrupted=True)
    assert "(interrupted: partial figures)" in " ".join(text_of(*tables_of(partial)).split())


def test_the_parts_are_listed(record: Record) -> None:
    assert row_of(record, "propose")[0] == "propose"
    assert row_of(record, "start to result")[3] == duration(record.parts.processing.largest)
    assert "reading" not in text_of(*tables_of(record))  # it was not measured


def test_facts_are_listed(record: Record) -> None:
    trait = Trait(text="size 640x480", tail_share=0.9, share=0.2)
    machine = replace(record.machine, fit=False, reasons=("it is hot",))
    accuracy = {
        "proposals": {"figures": {"mask AR@100": {"value": 0.5, "low": 0.25, "high": 0.75}}}
    }
    full = replace(
        record,
        outcome=replace(record.outcome, first=0.25, load=0.75),
        refusals={"503": distribution([0.002, 0.004])},
        tails=replace(record.tails, common=(trait,), excess={"propose": 0.7, "refine": 0.3}),
        machine=machine,
        accuracy=accuracy,
        search=RateSearch(bound=0.5, rate=3.21, trials=()),
        resources=replace(
            record.resources,
            peak_resident_bytes=123_456_789,
            joules_per_image=2.0,
            energy_counter="RAPL",
        ),
    )
    text = text_of(*tables_of(full))
    for part in (
        "size 640x480 (90% of the slowest, 20% of all)",
        "unfit to publish",
        "it is hot",
        "0.500 (0.250 to 0.750)",
        "3.21 images per second with p99 of at most 500 ms",
        "2.00 J per image (RAPL)",
        "first image     250 ms",
        "123 MB",
        "2 images with the status 503, after 4 ms at most",
        "70% of their time beyond the median went to propose",
    ):
        assert part in text


def test_the_parts_and_the_bytes_of_a_server_have_names_of_their_own(record: Record) -> None:
    server = Server(
        url="http://127.0.0.1:8000",
        metadata=ServerMetadata(name="foveate", version="0.1.0", extensions=()),
        model=ModelMetadata(name="mini", versions=(), platform="", inputs=(), outputs=()),
        input="image",
        outputs=(),
        binary=True,
        timeout=9.0,
    )
    remote = replace(
        record,
        subject=replace(record.subject, server=server),
        parts=replace(
            record.parts,
            enqueue=distribution([0.002] * 10),
            waiting_for_device=distribution([0.04] * 10),
        ),
        resources=replace(record.resources, copied_to_device=45_678, copied_from_device=1234),
    )
    assert row_of(remote, "sending")[1] == "2 ms"
    assert row_of(remote, "answer")[1] == "40 ms"
    assert "45.7 kB sent, 1.23 kB received" in text_of(*tables_of(remote))


def test_limits_are_listed_in_their_units() -> None:
    assert list(limit_rows(asdict(limits()))) == [
        ("propose", "arithmetic", "2", "100", "20 ms", "50%"),
        ("refine", "memory", "0.5", "100", "10 ms", "83%"),
    ]
