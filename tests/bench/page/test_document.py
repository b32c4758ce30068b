# SPDX-License-Identifier: Apache-2.0
"""The page of a record."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest
from tests.bench.page.reports import ADVICE, COMMAND, NAME, full_record
from tests.bench.simulated import noisy, simulated_record

from foveate.bench.facts import MEANINGS, facts_of, parts_of, percentile_row
from foveate.bench.figures import Floor, RateTrial
from foveate.bench.options import BenchOptions
from foveate.bench.page.document import LARGEST, page_of
from foveate.bench.page.tables import comparison, search
from foveate.bench.percentiles import distribution
from foveate.bench.record import Record
from foveate.bench.units import duration


@pytest.fixture(scope="module")
def record() -> Record:
    return full_record()


@pytest.fixture(scope="module")
def text(record: Record) -> str:
    return text_of(page_of(record, COMMAND))


def text_of(page: str) -> str:
    """The words of a page without its data and its styles."""
    visible = re.sub("<(script|style).*?</\\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub("<[^>]*>", " ", visible)).split())


def sections(page: str) -> list[str]:
    return re.findall('<section id="([a-z]+)"', page)


def answers(page: str) -> str:
    return text_of(page[page.index('id="answers"') : page.index('id="latency"')])


def test_the_answers_come_first(record: Record) -> None:
    assert sections(page_of(record, COMMAND)) == [
        *("answers", "latency", "stages", "timeline", "roofline", "comparison", "search"),
        *("course", "tails", "machine", "configuration", "data"),
    ]


def test_the_answers_are_those_of_the_record(record: Record) -> None:
    found = answers(page_of(record, COMMAND))
    p50, p90 = (record.latency.percentile(one) for one in (50, 90))
    for part in (
        f"nine of ten at most {duration(p90.value)}.",
        f"Half of the images take at most {duration(p50.value)} (95 % interval {duration(p50.low)}",
        "propose takes most:",
        "propose reaches 50% of what the arithmetic of this machine allows",
        "run in a better way, it could be up to 2 times as fast",
        "refine reaches 83% of what the memory of this machine allows : only less work",
        "The machine was not quiet, so times may be too long: others took 80% of the <processor>",
        "size 65x48 (90% of the slowest, 50% of all)",
        f"{ADVICE.text} {ADVICE.command}",
    ):
        assert part.replace(" :", ":") in found.replace(" :", ":")


def test_without_limits_the_page_says_how_to_get_advice(record: Record) -> None:
    bare = page_of(replace(record, limits=None, advice=None), COMMAND)
    assert "foveate bench bundle --limits" in answers(bare)
    assert "roofline" not in sections(bare)


def test_a_server_shows_how_long_images_wait() -> None:
    options = BenchOptions(scenario="server", rate=9.0, seconds=60, warm_up=0)
    page = page_of(simulated_record(noisy(0), options), COMMAND)
    assert "start to result, median" in text_of(page)


@pytest.mark.parametrize(("waiting", "shown"), [(0.05, True), (0.011, True), (0.009, False)])
def test_a_wait_is_named_from_a_twentieth_of_the_latency_on(
    record: Record, waiting: float, shown: bool
) -> None:
    served = replace(
        record,
        scenario=replace(record.scenario, name="server", rate=3.0),
        latency=distribution([0.2] * 20),
        waiting=distribution([waiting] * 20),
    )
    text = f"An image waits {1e3 * waiting:.3g} ms ({waiting / 0.2:.0%}) before the pipeline"
    assert (text in answers(page_of(served, COMMAND))) == shown


def test_the_largest_parts_are_named_with_their_shares(record: Record) -> None:
    names = ("propose", "refine", "features", "classify")
    medians = (0.1, 0.05, 0.02, 0.015)
    divided = replace(
        record,
        stages={name: distribution([one] * 20) for name, one in zip(names, medians, strict=True)},
        operations={},
        parts=replace(record.parts, processing=distribution([0.25] * 20)),
    )
    expected = "propose takes most: 100 ms, 40% of the 250 ms from start to result, then refine"
    found = answers(page_of(divided, COMMAND))
    assert f"{expected} (20%), then features (8%)." in found


@pytest.mark.parametrize(("overlap", "shown"), [(1.04, False), (1.06, True)])
def test_streams_that_work_side_by_side_are_named(
    record: Record, overlap: float, shown: bool
) -> None:
    parallel = replace(record, parts=replace(record.parts, overlap=overlap))
    text = f"on average, {overlap} streams work at a time"
    assert (text in answers(page_of(parallel, COMMAND))) == shown


def test_the_figures_are_those_of_the_table(record: Record, text: str) -> None:
    for one in record.latency.percentiles:
        assert " ".join(percentile_row(one, record)).strip() in text
    for name, times in {**parts_of(record), **record.stages}.items():
        values = (times.percentile(50).value, times.percentile(90).value, times.largest)
        assert " ".join([name, MEANINGS[name], *map(duration, values)]) in text
    for name, fact in facts_of(record):
        assert f"{name} {fact}" in text


def test_comparison_search_and_tails_are_listed(record: Record, text: str) -> None:
    assert record.against is not None
    assert record.against.comparison is not None
    ratio = record.against.comparison.ratios[0]
    assert f"{ratio.value:.3f} {ratio.low:.3f} to {ratio.high:.3f}" in text
    assert "3.21 images/s held 400 500 ms 400 ms to 600 ms" in text
    slowest = record.tails.slowest[0]
    image = record.inputs[slowest.input]
    median = record.latency.percentile(50).value
    assert median is not None
    times = f"{duration(slowest.latency)} {slowest.latency / median:.2f}"
    assert f"{image.width} x {image.height} {times}" in text


@pytest.mark.parametrize("factor", [0.8, 1.5])
def test_ratios_are_drawn_next_to_a_line_at_one(record: Record, factor: float) -> None:
    assert record.against is not None
    compared = record.against.comparison
    assert compared is not None
    ratios = tuple(
        replace(one, value=factor, low=0.95 * factor, high=1.05 * factor) for one in compared.ratios
    )
    against = replace(record.against, comparison=replace(compared, ratios=ratios))
    drawn = re.findall(
        r'<rect class="(?:roof|c0)" x="([\d.-]+)%" y="[\d.]+" width="([\d.]+)%"',
        comparison(replace(record, against=against)),
    )
    line, *bars = ((float(x) + float(width) / 2, float(width)) for x, width in drawn)
    assert len(bars) == 2 * len(ratios)
    for (middle, interval), (mark, width) in zip(bars[::2], bars[1::2], strict=True):
        assert mark == pytest.approx(middle, abs=0.1)
        assert width < interval
        assert 0 < mark < 100
        assert 0 < line[0] < 100
        assert (mark > line[0]) == (factor > 1)


@pytest.mark.parametrize(("count", "needed"), [(None, 368), (1500, "1,500")])
def test_a_search_states_how_many_images_a_rate_needs(
    record: Record, count: int | None, needed: object
) -> None:
    assert record.search is not None
    short = RateTrial(rate=0.1, images=0, p99=None, low=None, high=None, held=None)
    searched = replace(
        record,
        search=replace(record.search, trials=(short,)),
        scenario=replace(record.scenario, count=count, seconds=45.0),
    )
    expected = f"needs {needed} images for its 99th percentile. At a rate with not enough images, "
    assert f"{expected}they do not arrive in the 45 s of --seconds" in text_of(search(searched))


def test_the_state_of_the_machine_and_the_images_are_listed(record: Record) -> None:
    processor = replace(
        record.machine.processor,
        load_before=1.25,
        load_after=3.5,
        others=0.12,
        steal=0.03,
        lowest_mhz=1200.0,
        highest_mhz=3400.0,
    )
    first = replace(record.inputs[0], width=640, height=480, sha256="0123456789abcdef" * 4)
    stated = replace(
        record, machine=replace(record.machine, processor=processor), inputs=(first,) * 52
    )
    found = text_of(page_of(stated, COMMAND))
    for fact in (
        "load average 1.2 before, 3.5 after",
        "other processes 12% of the processor",
        "hypervisor 3% of the processor",
        "clock 1200 to 3400 MHz",
        "640 x 480 8 90 0123456789ab",
        "2 more images are in the record.",
    ):
        assert fact in found


def test_the_page_loads_and_runs_nothing(record: Record) -> None:
    page = page_of(record, COMMAND)
    assert "default-src 'none'" in page
    assert re.findall('(?:src|href|action)="([^"]*)"', page) == ["data:,"]
    assert re.findall('<script(?! type="application/json")', page) == []
    assert "url(" not in page
    assert "@import" not in page


def test_texts_of_users_are_not_part_of_the_page(record: Record) -> None:
    page = page_of(record, COMMAND)
    assert NAME in text_of(page)
    assert "<b>&" not in page
    assert page.count("</script>") == 1


def test_a_page_is_small_however_many_images_were_measured() -> None:
    record = full_record(seconds=1500)
    page = page_of(record, COMMAND)
    assert record.outcome.images >= 9_000
    assert len(page.encode()) <= LARGEST
    assert "this page lacks the raw values of all images. The file that --json" in text_of(page)
    assert "1,000 of " in text_of(page)


def test_a_record_without_images_has_a_page() -> None:
    options = BenchOptions(scenario="server", rate=0.01, seconds=1)
    page = page_of(simulated_record(noisy(0), options), COMMAND)
    assert "0 images are too few for any percentile, which needs 6: raise --seconds." in text_of(
        page
    )
    assert "timeline" not in sections(page)


def test_images_that_were_never_finished_have_no_curve() -> None:
    options = BenchOptions(scenario="server", rate=0.01, seconds=1)
    empty = simulated_record(noisy(0), options)
    late = replace(empty, latency=distribution([], unstarted=7))
    assert 'd="M"' not in page_of(late, COMMAND)


def test_a_rate_that_is_not_held_comes_first() -> None:
    options = BenchOptions(scenario="server", rate=20.0, seconds=60, warm_up=0)
    record = simulated_record(noisy(0), options)
    found = answers(page_of(record, COMMAND))
    assert "The pipeline does not keep up: 20 images arrive per second, " in found
    assert f"{record.outcome.unstarted:,} were never started." in found
    refused = replace(record, outcome=replace(record.outcome, refused=3))
    assert "were never started, 3 were refused." in answers(page_of(refused, COMMAND))
    middle = record.parts.processing.percentile(50).value
    assert middle is not None
    assert f"foveate bench bundle --scenario server --p99 {2 * middle:.3g}" in found


def test_a_floor_without_percentiles_is_not_drawn(record: Record) -> None:
    short = replace(record, floor=Floor(rate=None, latency=distribution([0.1] * 3), share=None))
    assert "harness floor, median" not in text_of(page_of(short, COMMAND))
