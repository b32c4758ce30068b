# SPDX-License-Identifier: Apache-2.0
"""The page that a server sends, in Chromium: it takes images and asks the server about them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import cv2
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect
from tests.page.records import picture
from tests.page.stand_in import StandIn, stand_in

# Gives a file to the page as a drop or a paste does, without a mouse or a clipboard.
GIVE = """([kind, name, type, content]) => {
  const data = new DataTransfer(), bytes = Uint8Array.from(atob(content), one => one.charCodeAt());
  data.items.add(new File([bytes], name, {type}));
  const init = {bubbles: true, cancelable: true};
  document.body.dispatchEvent(kind === "paste" ? new ClipboardEvent("paste", {...init, clipboardData: data})
    : new DragEvent("drop", {...init, dataTransfer: data}));
}"""


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return cv2.imencode(".jpg", picture())[1].tobytes()


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: StandIn) -> Iterator[Page]:
    found = browser.new_page()
    found.goto(server.url)
    yield found
    found.close()


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    payloads: list[FilePayload] = [
        {"name": name, "mimeType": "image/jpeg", "buffer": content} for name, content in files
    ]
    page.locator("#chooser").set_input_files(payloads)


def test_a_chosen_image_is_sent_as_it_is_and_shown(
    page: Page, server: StandIn, jpeg: bytes
) -> None:
    assert "Drop an image here" in page.locator("#empty").inner_text()
    choose(page, ("cat.jpg", jpeg))
    expect(page.locator("#shapes path")).to_have_count(3)
    assert server.images == [jpeg]
    assert page.locator("#title b").inner_text() == "cat.jpg"
    page.wait_for_selector("#image")
    assert (
        page.locator("#image").evaluate("one => one.decode().then(() => one.naturalWidth)") == 640
    )
    assert page.locator("#empty").is_hidden()


def test_no_file_is_sent_as_a_form_or_text(page: Page) -> None:
    """Otherwise the server would explain how curl sends a file."""
    files: list[FilePayload] = [{"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF"}]
    with page.expect_request("**/v1/page") as sent:
        page.locator("#chooser").set_input_files(files)
    assert sent.value.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_an_image_may_be_dropped_or_pasted(
    page: Page, server: StandIn, jpeg: bytes, kind: str
) -> None:
    content = base64.b64encode(jpeg).decode()
    page.evaluate(GIVE, [kind, "a.jpg", "image/jpeg", content])
    expect(page.locator("#title b")).to_have_text("a.jpg")
    assert server.images == [jpeg]


def test_several_images_are_sent_one_after_the_other(
    page: Page, server: StandIn, jpeg: bytes
) -> None:
    choose(page, *((f"{n}.jpg", jpeg) for n in range(4)))
    expect(page.locator("#images button")).to_have_count(4)
    assert server.most == 1
    page.keyboard.press("ArrowLeft")
    assert page.locator("#title b").inner_text() == "2.jpg"


@pytest.mark.parametrize(
    ("refusal", "shown"),
    [
        ((415, "application/json", json.dumps({"error": {"message": "no image"}})), "no image"),
        ((503, "text/plain", "too many images\n"), "too many images"),
        ((500, "text/plain", ""), "the server answered with status 500"),
    ],
)
def test_an_error_of_the_server_is_shown(
    page: Page, server: StandIn, jpeg: bytes, refusal: tuple[int, str, str], shown: str
) -> None:
    server.refusal = refusal
    choose(page, ("cat.jpg", jpeg))
    expect(page.get_by_role("alert")).to_have_text(f"cat.jpg: {shown}")
    server.refusal = None
    choose(page, ("cat.jpg", jpeg))
    expect(page.get_by_role("alert")).to_be_hidden()


def test_the_key_of_the_server_is_asked_for(page: Page, server: StandIn, jpeg: bytes) -> None:
    server.key = "secret"
    choose(page, ("cat.jpg", jpeg))
    for key in ("wrong", "secret"):
        expect(page.locator("#key")).to_be_visible()
        page.locator("#key input").fill(key)
        page.keyboard.press("Enter")
    expect(page.locator("#title b")).to_have_text("cat.jpg")
    choose(page, ("dog.jpg", jpeg))  # which asks no more
    expect(page.locator("#title b")).to_have_text("dog.jpg")


def test_without_a_key_the_refusal_is_shown(page: Page, server: StandIn, jpeg: bytes) -> None:
    server.key = "secret"
    choose(page, ("cat.jpg", jpeg))
    expect(page.locator("#key")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_have_text("cat.jpg: wrong key")


def test_the_camera_has_one_image_in_flight(page: Page, server: StandIn) -> None:
    page.get_by_role("button", name="Camera").click()
    expect(page.locator("#title b")).to_have_text("camera")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Camera").click()
    page.wait_for_timeout(200)
    sent = len(server.images)
    assert sent >= 2
    assert server.most == 1
    assert server.images[0][:2] == b"\xff\xd8"
    assert page.locator("#images button").count() == 1
    page.wait_for_timeout(200)
    assert len(server.images) == sent


def test_a_server_that_is_gone_is_an_error(page: Page, server: StandIn, jpeg: bytes) -> None:
    page.route("**/v1/page", lambda route: route.abort())
    choose(page, ("cat.jpg", jpeg))
    expect(page.get_by_role("alert")).to_have_text("cat.jpg: Failed to fetch")


def test_an_image_that_the_browser_cannot_show_is_named(page: Page, server: StandIn) -> None:
    choose(page, ("scan.tif", b"II*\0"))
    expect(page.get_by_role("alert")).to_contain_text("scan.tif: the browser cannot show")
    assert page.locator("#shapes path").count() == 3
