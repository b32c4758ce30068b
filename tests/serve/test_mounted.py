# SPDX-License-Identifier: Apache-2.0
"""The server as a part of another application, under a path of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from starlette.applications import Starlette
from starlette.routing import Mount
from tests.samples.serving import document, encoded, send, server_thread, square

from foveate.serve import ServeOptions, create_app

KEY = "0123456789abcdef"


def test_a_mounted_server_answers_as_one_of_its_own(contrast_bundle: Path) -> None:
    options = ServeOptions(keys=(KEY,))
    app = create_app(contrast_bundle, options)

    @asynccontextmanager
    async def lifespan(site: Starlette) -> AsyncIterator[None]:
        del site
        async with app.router.lifespan_context(app):
            yield

    site = Starlette(routes=[Mount("/vision", app)], lifespan=lifespan)
    with server_thread(site, options) as url:
        for path in ("/vision/", "/vision/v2/health/ready"):
            assert send(url, path).status == 200
        key = {"Authorization": f"Bearer {KEY}"}
        found = send(url, "/vision/v1/objects", encoded(square()), key)
        assert document(found)["objects"][0]["name"] == "red"
        refused = send(url, "/vision/v2/models/other", headers=key)
        assert isinstance(document(refused)["error"], str)
        assert send(url, "/vision/v2").status == 401


def test_a_server_that_was_not_started_says_so(
    contrast_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Starlette(routes=[Mount("/vision", create_app(contrast_bundle))])
    with server_thread(site, ServeOptions()) as url:
        assert send(url, "/vision/v2/health/ready").status == 500
    assert caplog.records[-1].exc_info is not None
    assert str(caplog.records[-1].exc_info[1]) == (
        "expected an application that was started, found one whose lifespan did not run: run it: "
        "async with app.router.lifespan_context(app), in the lifespan of the application that "
        "mounts this one"
    )
