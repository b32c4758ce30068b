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
from foveate.bench.figures import Floor
from foveate.bench.options import BenchOptions
from foveate.bench.page.document import LARGEST, page_of
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
    p50 = record.latency.percentile(50)
    for part in (
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
    assert "before the pipeline takes it" in answers(page)
    assert "start to result, median" in text_of(page)


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
    assert f"{image.width} x {image.height} {duration(slowest.latency)}" in text


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
    assert "foveate bench bundle --scenario server --p99 0." in found


def test_a_floor_without_percentiles_is_not_drawn(record: Record) -> None:
    short = replace(record, floor=Floor(rate=None, latency=distribution([0.1] * 3), share=None))
    assert "harness floor, median" not in text_of(page_of(short, COMMAND))
