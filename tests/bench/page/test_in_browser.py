# SPDX-License-Identifier: Apache-2.0
"""The page of a record in Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import jsonschema
import pytest
from playwright.sync_api import Browser, Page
from tests.bench.page.reports import COMMAND, full_record

from foveate.bench.json_schema import record_schema
from foveate.bench.page.document import page_of

WIDTHS = (400, 1200)
# Pairs of labels of the same chart that cover each other.
OVERLAPS = """
() => [...document.querySelectorAll(".chart")].flatMap(chart => {
  const labels = [...chart.querySelectorAll("text")].map(one => [one.textContent, one.getBoundingClientRect()]);
  return labels.flatMap(([a, p], n) => labels.slice(n + 1)
    .filter(([b, q]) => p.left < q.right && q.left < p.right && p.top + 2 < q.bottom && q.top + 2 < p.bottom)
    .map(([b, q]) => `${a} | ${b}`));
})
"""
# Labels that are outside of the box of their section.
CLIPPED = """
() => [...document.querySelectorAll(".chart text")].filter(one => {
  const label = one.getBoundingClientRect(), box = one.closest("section, article").getBoundingClientRect();
  return label.left < box.left || label.right > box.right || label.top < box.top || label.bottom > box.bottom;
}).map(one => one.textContent)
"""
# The title of what the pointer would be on in the middle of each bar of the stages.
TITLES = """
() => [...document.querySelectorAll("#stages rect:not(.reach)")].map(bar => {
  bar.scrollIntoView({block: "center"});
  const box = bar.getBoundingClientRect();
  const under = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  return under?.querySelector("title")?.textContent ?? "";
})
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of(full_record(), COMMAND), "utf-8")
    return path


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Browser, file: Path) -> Iterator[Page]:
    found = browser.new_page(viewport={"width": request.param, "height": 900})
    found.goto(file.as_uri())
    yield found
    found.close()


def test_the_page_loads_nothing_else_and_reports_nothing(browser: Browser, file: Path) -> None:
    page, requests, messages = browser.new_page(), list[str](), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    page.close()
    assert [one for one in requests if not one.startswith("data:")] == [file.as_uri()]
    assert messages == []


def test_the_page_fits_the_window(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_label_covers_another_one(page: Page) -> None:
    assert page.evaluate(OVERLAPS) == []


def test_no_label_is_clipped(page: Page) -> None:
    assert page.evaluate(CLIPPED) == []


def test_a_bar_shows_its_figures_under_the_pointer(page: Page) -> None:
    titles = page.evaluate(TITLES)
    assert titles[0].startswith("propose: p50 ")
    assert all(": p50 " in one for one in titles)


@pytest.mark.parametrize(("scheme", "ground_is_light"), [("light", True), ("dark", False)])
def test_the_page_has_dark_colors_where_the_system_has(
    browser: Browser, file: Path, scheme: Literal["light", "dark"], ground_is_light: bool
) -> None:
    lightness = """() => ["backgroundColor", "color"].map(name =>
      getComputedStyle(document.body)[name].match(/\\d+/g).reduce((sum, one) => sum + Number(one), 0))"""
    page = browser.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    ground, ink = page.evaluate(lightness)
    page.close()
    assert (ground > ink) == ground_is_light


def test_the_data_in_the_page_is_a_valid_record(page: Page) -> None:
    document = json.loads(page.locator("#record").text_content() or "")
    jsonschema.validate(document, record_schema())


def test_figures_are_opened_by_the_keyboard(page: Page) -> None:
    summary = page.locator("#stages summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#stages table").is_visible()
