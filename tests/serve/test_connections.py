# SPDX-License-Identifier: Apache-2.0
"""More connections than a server takes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import document, send, server_thread, until

from foveate.serve import ServeOptions, create_app
from foveate.serve.server import Address


@pytest.fixture(scope="module")
def server(contrast_bundle: Path) -> Iterator[str]:
    options = ServeOptions()
    address = Address(port=0, max_connections=2)
    with server_thread(create_app(contrast_bundle, options), options, address) as url:
        yield url


def connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def received(client: socket.socket) -> bytes:
    """Return all that the server sends until it sends no more."""
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def is_reset(client: socket.socket) -> bool:
    try:
        client.sendall(b"more")
    except ConnectionError:
        return True
    return False


def test_one_connection_too_many_is_answered_at_once(server: str) -> None:
    with closing(connect(server)), closing(connect(server)), closing(connect(server)) as third:
        head, _, body = received(third).partition(b"\r\n\r\n")
    status, *headers = head.decode().lower().split("\r\n")
    assert status == "http/1.1 503 service unavailable"
    assert {"content-type: application/json", "retry-after: 1", "connection: close"} <= set(headers)
    assert json.loads(body)["error"]["message"] == (
        "expected a server with room for the request, found 2 connections: send it again after 1 s"
    )


def test_a_client_that_sends_much_has_the_answer_too(server: str) -> None:
    with closing(connect(server)), closing(connect(server)):
        answer = send(server, "/v1/objects", bytes(20_000_000))
    assert answer.status == 503
    assert document(answer)["error"]["found"] == "2 connections"


def test_a_refused_client_that_does_not_leave_is_dropped(server: str) -> None:
    with closing(connect(server)), closing(connect(server)), closing(connect(server)) as third:
        assert received(third).startswith(b"HTTP/1.1 503 ")
        until(lambda: is_reset(third))


def test_there_is_room_again_when_a_client_leaves(server: str) -> None:
    with closing(connect(server)):
        with closing(connect(server)):
            assert send(server, "/v2/health/live").status == 503
        until(lambda: send(server, "/v2/health/live").status == 200)
