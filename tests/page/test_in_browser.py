# SPDX-License-Identifier: Apache-2.0
"""The page in Chromium."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from tests.page.records import HEIGHT, WIDTH, findings, manifest, picture, record

from foveate.page import page as page_of
from foveate.results.coco import CocoDocument

NAMES = ("first.jpg", "<!--</script>/<b>second.jpg")
SECOND = "<b>second.jpg"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "results.html"
    path.write_text(page_of([record(NAMES[0]), record(NAMES[1], tone=200)]), "utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    found = browser.new_page(viewport={"width": 1200, "height": 800})
    found.goto(file.as_uri())
    yield found
    found.close()


def shape(page: Page, index: int) -> Locator:
    return page.locator(f"#shapes path[data-index='{index}']")


def item(page: Page, index: int) -> Locator:
    return page.locator(f"#objects button[data-index='{index}']")


def set_slider(page: Page, name: str, value: float) -> None:
    page.locator(f"#{name}").fill(str(value))


def visible_shapes(page: Page) -> list[int]:
    shapes = page.locator("#shapes path:visible").all()
    return sorted(int(one.get_attribute("data-index") or -1) for one in shapes)


def visible_items(page: Page) -> list[str]:
    return page.locator("#objects li:visible span").all_inner_texts()


def lit(page: Page) -> list[str | None]:
    return [one.get_attribute("data-index") for one in page.locator("#shapes path.lit").all()]


def point_at(page: Page, x: float, y: float) -> None:
    """Move the pointer to a place of the image, in its pixels."""
    box = page.locator("#shapes").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + x / WIDTH * box["width"], box["y"] + y / HEIGHT * box["height"])


def test_the_page_loads_nothing_else_and_reports_nothing(browser: Browser, file: Path) -> None:
    page, requests, messages = browser.new_page(), list[str](), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(file.as_uri())
    page.keyboard.press("ArrowDown")
    page.wait_for_load_state("networkidle")
    page.close()
    assert [one for one in requests if not one.startswith("data:")] == [file.as_uri()]
    assert messages == []


def test_a_name_cannot_become_a_part_of_the_page(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    assert page.locator("#title b").inner_text() == SECOND


def test_an_object_under_the_pointer_shows_what_is_known_of_it(page: Page) -> None:
    assert not page.locator("#card").is_visible()
    point_at(page, 420, 220)
    assert lit(page) == ["2"]
    assert page.locator("#card h3").inner_text().split() == ["food", "0.30"]
    assert page.locator("#card dt").all_inner_texts() == ["Area", "Size", "Level", "Window"]
    assert page.locator("#card dd").all_inner_texts() == [
        "6,400 px, 2.1 % of the image",
        "80 × 80 px",
        "8 of 8, scale 2",
        "80 px",
    ]
    point_at(page, 10, 470)
    assert lit(page) == []
    assert not page.locator("#card").is_visible()


def test_a_click_pins_an_object_until_escape(page: Page) -> None:
    point_at(page, 420, 220)
    page.mouse.down()
    page.mouse.up()
    point_at(page, 10, 470)
    assert lit(page) == ["2"]
    assert item(page, 2).get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert lit(page) == []
    assert item(page, 2).get_attribute("aria-pressed") == "false"


def test_a_click_beside_the_objects_unpins(page: Page) -> None:
    shape(page, 2).click()
    page.locator("#shapes").click(position={"x": 3, "y": 3})
    assert lit(page) == []


def test_the_score_slider_acts_at_once(page: Page) -> None:
    assert visible_shapes(page) == [0, 1, 2]
    set_slider(page, "score", 0.45)
    assert visible_shapes(page) == [0, 1]
    assert visible_items(page) == ["animal", "person"]
    assert page.locator("#count").inner_text() == "2 of 3 detections shown"
    set_slider(page, "score", 0.81)
    assert visible_shapes(page) == []
    assert "lower the slider" in page.locator("#count").inner_text()


@pytest.mark.parametrize(("overlap", "kept"), [(0.59, [0, 2]), (0.61, [0, 1, 2])])
def test_the_overlap_slider_hides_what_a_better_object_overlaps(
    page: Page, overlap: float, kept: list[int]
) -> None:
    set_slider(page, "overlap", overlap)
    assert visible_shapes(page) == kept


def test_a_pin_is_lost_with_its_object(page: Page) -> None:
    shape(page, 2).click()
    set_slider(page, "score", 0.45)
    set_slider(page, "score", 0.25)
    page.mouse.move(0, 0)
    assert lit(page) == []


def test_the_slider_begins_at_the_threshold_of_the_command(browser: Browser, file: Path) -> None:
    low = {**record("a.jpg"), "score_threshold": 0.4}
    page = browser.new_page()
    page.set_content(page_of([low]))
    assert visible_shapes(page) == [0, 1]
    page.close()


def test_masks_boxes_and_names_can_be_hidden(page: Page) -> None:
    expect(shape(page, 0)).to_have_css("fill-opacity", "0.36")
    page.get_by_text("Masks", exact=True).click()
    expect(shape(page, 0)).to_have_css("fill-opacity", "0")
    assert page.locator("#shapes rect:visible").count() == 0
    page.get_by_text("Boxes", exact=True).click()
    assert page.locator("#shapes rect:visible").count() == 3
    assert page.locator("#labels span:visible").all_inner_texts() == [
        "animal 0.80",
        "person 0.50",
        "food 0.30",
    ]
    page.get_by_text("Names", exact=True).click()
    assert page.locator("#labels span:visible").count() == 0


def test_proposals_can_be_shown_alone(page: Page) -> None:
    page.get_by_text("Proposals only").click()
    set_slider(page, "score", 0)
    set_slider(page, "overlap", 1)
    assert visible_items(page) == [f"proposal {n}" for n in range(1, 5)]
    page.get_by_text("Detections").click()
    assert visible_items(page) == ["animal", "person", "food"]


def test_list_and_image_are_linked_both_ways(page: Page) -> None:
    point_at(page, 60, 80)
    assert "lit" in (item(page, 0).get_attribute("class") or "")
    item(page, 2).hover()
    assert lit(page) == ["2"]
    page.mouse.move(0, 0)
    item(page, 1).focus()
    assert lit(page) == ["1"]


def test_a_small_object_is_pointed_at_in_front_of_a_large_one(page: Page) -> None:
    page.get_by_text("Proposals only").click()
    set_slider(page, "score", 0)
    set_slider(page, "overlap", 1)
    point_at(page, 440, 240)  # within the windows of the third and of the fourth
    assert lit(page) == ["2"]


def test_the_keyboard_moves_through_objects_and_images(page: Page) -> None:
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert lit(page) == ["1"]
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    assert lit(page) == ["0"]
    assert item(page, 1).get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    assert page.locator("#images [aria-current]").get_attribute("aria-label") == SECOND
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#images [aria-current]").get_attribute("aria-label") == NAMES[0]


def test_arrows_on_a_slider_move_the_slider(page: Page) -> None:
    page.locator("#score").focus()
    page.keyboard.press("ArrowRight")
    assert float(page.locator("#score").input_value()) == pytest.approx(0.26)
    assert page.locator("#title b").inner_text() == NAMES[0]


def test_the_list_is_one_stop_of_the_tabulator(page: Page) -> None:
    page.keyboard.press("ArrowDown")
    assert page.locator("#objects button[tabindex='0']").count() == 1


def test_screen_readers_hear_each_object(page: Page) -> None:
    assert item(page, 2).get_attribute("aria-label") == "food, score 0.30, 2.1 % of the image"
    assert page.get_by_role("list", name="Objects, best first").count() == 1
    assert page.get_by_role("slider", name="Score of at least").count() == 1
    assert page.get_by_role("img", name=NAMES[0]).count() == 1
    assert page.get_by_role("navigation", name="Images").count() == 1


def test_thumbnails_open_their_images(page: Page) -> None:
    buttons = page.locator("#images button")
    assert buttons.count() == 2
    source = page.locator("#image").get_attribute("src")
    buttons.nth(1).click()
    assert page.locator("#image").get_attribute("src") != source
    assert buttons.nth(1).get_attribute("aria-current") == "true"


def test_the_times_of_the_stages_are_a_bar(page: Page) -> None:
    texts = page.locator("#times li").all_inner_texts()
    assert texts == [
        "propose 60 ms",
        "refine 20 ms",
        "features 10 ms",
        "classify 8 ms",
        "other 2 ms",
    ]
    widths = page.locator("#times .bar span").evaluate_all("all => all.map(one => one.offsetWidth)")
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.05)


def saved(page: Page, button: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


def test_json_is_what_foveate_run_writes(page: Page) -> None:
    name, content = saved(page, "Save JSON")
    document = CocoDocument(manifest().class_names)
    for one in NAMES:
        document.add(one, findings().detections)
    expected, found = json.loads(document.to_text()), json.loads(content)
    assert name == "foveate-detections.json"
    assert found["images"] == expected["images"]
    assert found["categories"] == expected["categories"]
    assert len(found["annotations"]) == 6
    for one, other in zip(found["annotations"], expected["annotations"], strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-4)
        assert one == other


def test_json_has_what_the_sliders_leave(page: Page) -> None:
    page.get_by_text("Proposals only").click()
    set_slider(page, "score", 0.65)
    set_slider(page, "overlap", 0.5)
    name, content = saved(page, "Save JSON")
    assert name == "foveate-proposals.json"
    found = json.loads(content)
    assert [(one["image_id"], one["category_id"]) for one in found["annotations"]] == [
        (1, 1),
        (2, 1),
    ]
    assert found["categories"] == [{"id": 1, "name": "object"}]


def test_png_is_the_overlay_as_shown(page: Page) -> None:
    page.get_by_text("Names", exact=True).click()
    set_slider(page, "score", 0.6)
    name, content = saved(page, "Save PNG")
    assert name == "first-overlay.png"
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    change = np.abs(pixels - picture().astype(int)).max(2)
    assert change[70:210, 50:190].mean() > 20  # the mask of the only detection that is left
    assert change[230:, :].max() < 12  # JPEG only
    assert change[:, 210:].max() < 12


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


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_the_page_fits_windows_of_any_width(browser: Browser, file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 700})
    page.goto(file.as_uri())
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    frame = page.locator("#frame").bounding_box()
    card = page.locator("#card").bounding_box()
    page.close()
    assert frame is not None
    assert card is not None
    assert frame["width"] / frame["height"] == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    assert frame["x"] <= card["x"]
    assert card["x"] + card["width"] <= frame["x"] + frame["width"] + 1


def test_a_page_without_images_says_so(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(page_of())
    assert page.locator("#empty").inner_text() == "This page has no image."
    page.close()


@pytest.mark.parametrize("live", [False, True])
def test_the_code_of_a_page_is_small(live: bool) -> None:
    assert len(page_of(live=live).encode()) < 60_000
