# SPDX-License-Identifier: Apache-2.0
"""Requests that are too large, too slow or malformed."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.serving import document, encoded, send, server_thread, square

import foveate
from foveate.errors import OptionError
from foveate.serve import ServeOptions, create_app

FILE = encoded(square())
OBJECTS = "/v1/objects"
OPTIONS = ServeOptions(read_timeout=0.3, max_bytes=50_000, max_pixels=320 * 240)
HEAD = f"POST {OBJECTS} HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server(contrast_bundle: Path) -> Iterator[str]:
    with (
        foveate.load(contrast_bundle) as pipeline,
        server_thread(create_app([pipeline], OPTIONS), OPTIONS) as url,
    ):
        yield url


def exchange(url: str, *parts: bytes) -> tuple[int, dict[str, str], Any]:
    """Send parts of a request, and read until the server closes the connection or has answered."""
    host, _, port = url.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as client:
        for part in parts:
            client.sendall(part)
        response = b""
        while b"\r\n\r\n" not in response or len(response) < _length(response):
            received = client.recv(1 << 16)
            if not received:
                break
            response += received
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    return int(status.split()[1]), headers, json.loads(body)["error"]


def _length(response: bytes) -> int:
    head, _, _ = response.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(head) + 4 + int(length)


def test_a_long_body_is_refused_before_it_is_read(server: str) -> None:
    status, _, error = exchange(server, f"{HEAD}Content-Length: 50001\r\n\r\n".encode())
    assert status == 413
    assert error["expected"] == "a body of at most 50000 bytes"
    assert error["found"] == "50001 bytes"


def test_a_body_of_unknown_length_is_refused_when_it_is_too_long(server: str) -> None:
    chunk = b"7530\r\n" + bytes(0x7530) + b"\r\n"
    head = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    status, _, error = exchange(server, head, chunk, chunk)
    assert (status, error["found"]) == (413, "more")


def test_a_body_of_unknown_length_is_read(server: str) -> None:
    head = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    status, _, error = exchange(server, head, b"5\r\nhello\r\n0\r\n\r\n")
    assert (status, error["found"]) == (400, "the file is not an image that can be decoded")
    assert error["message"].startswith("the file is not an image that can be decoded: conv")


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(server: str) -> None:
    answer = send(server, OBJECTS, png_that_claims(60_000, 60_000))
    assert answer.status == 413
    found = document(answer)["error"]["found"]
    assert found == "the image has 60000 x 60000 pixels, more than the 76,800 that are accepted"


def test_pixels_of_a_tensor_are_counted(contrast_bundle: Path) -> None:
    row = {"name": "image", "datatype": "UINT8", "shape": [1, 90_000, 3]}
    tensor = {**row, "parameters": {"binary_data_size": 270_000}}
    head = json.dumps({"inputs": [tensor]}).encode()
    options = ServeOptions(max_pixels=80_000)
    with foveate.load(contrast_bundle) as pipeline:
        app = create_app([pipeline], options)
        with server_thread(app, options) as url:
            answer = send(
                url,
                "/v2/models/foveate/infer",
                head + bytes(270_000),
                {"Inference-Header-Content-Length": str(len(head))},
            )
    assert answer.status == 413
    assert "at most 80000 pixels, found 90000" in document(answer)["error"]


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def test_a_slow_body_is_not_waited_for(server: str) -> None:
    status, headers, error = exchange(server, f"{HEAD}Content-Length: 9\r\n\r\nhalf".encode())
    assert status == 408
    assert error["expected"] == "the whole body within 0.3 s"
    assert headers["connection"] == "close"


def test_a_slow_head_is_not_waited_for(server: str) -> None:
    status, headers, error = exchange(server, HEAD.encode())
    assert (status, headers["connection"]) == (408, "close")
    assert error["expected"] == "the head of a request within 0.3 s"


def test_a_slow_head_after_an_answer_is_not_waited_for(server: str) -> None:
    host, _, port = server.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as client:
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        client.sendall(HEAD.encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_sends_nothing_is_not_waited_for(server: str) -> None:
    host, _, port = server.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as client:
        assert client.recv(1 << 16) == b""


def test_a_client_that_does_not_take_the_answer_is_not_waited_for(contrast_bundle: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    file = encoded(noise, ".jpg")
    options = ServeOptions(read_timeout=0.5)
    head = f"{HEAD}Accept: image/png\r\nConnection: close\r\nContent-Length: {len(file)}\r\n\r\n"
    with server_thread(create_app(contrast_bundle, options), options) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with closing(socket.create_connection((host, int(port)), timeout=30)) as client:
            client.sendall(head.encode() + file)
            start = client.recv(1 << 12)
            assert start.startswith(b"HTTP/1.1 200 ")
            time.sleep(1.5)
            received = len(start)
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(1 << 20):
                    received += len(part)
    assert received < _length(start)


@pytest.mark.parametrize(
    ("parts", "status", "found"),
    [
        ([b"nonsense\r\n\r\n"], 400, "something else"),
        ([b"GET / HTTP/1.1\r\n\r\n"], 400, "something else"),
        ([HEAD.encode() + b"X: " + b"x" * 20_000], 431, "a longer one"),
        ([f"{HEAD}Content-Length: 0\r\n\r\n".encode()], 400, "an empty body"),
        ([f"{HEAD}Content-Length: -1\r\n\r\n".encode()], 400, "something else"),
        (
            [f"{HEAD}Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n".encode()],
            415,
            "Content-Encoding: gzip",
        ),
    ],
)
def test_a_malformed_request_is_answered(
    server: str, parts: list[bytes], status: int, found: str
) -> None:
    got, headers, error = exchange(server, *parts)
    assert (got, error["found"]) == (status, found)
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "expected", "found"),
    [
        ("GET", "/nothing", 404, "a route that the server has", "'/nothing'"),
        ("GET", "/v1/objects", 405, "the method POST", "GET"),
        ("POST", "/v1/objects?top_k=3", 400, "the parameters score_threshold, ma", "'top_k'"),
        ("POST", "/v1/objects?score_threshold=1.5", 400, "a number from 0 up to 1 as s", "'1.5'"),
        ("POST", "/v1/objects?score_threshold=nan", 400, "a number from 0 up to 1 as s", "'nan'"),
        ("POST", "/v1/objects?score_threshold=0.1", 400, "a score_threshold of at least 0.25", "0"),
        ("POST", "/v1/objects?max_detections=0", 400, "an integer of 1 or more as max_d", "'0'"),
        ("POST", "/v1/objects?max_detections=1_0", 400, "an integer of 1 or more as max_", "'1_0'"),
        ("POST", "/v1/objects?max_detections=%205", 400, "an integer of 1 or more as max_", "' 5'"),
        ("POST", "/v1/proposals?max_proposals=x", 400, "an integer of 1 or more as max_", "'x'"),
        ("POST", "/v1/proposals?max_proposals=1&max_proposals=2", 400, "each param", "one twice"),
    ],
)
def test_every_error_names_what_was_expected_and_found(
    server: str, method: str, path: str, status: int, expected: str, found: str
) -> None:
    answer = send(server, path, FILE if method == "POST" else b"", method=method)
    error = document(answer)["error"]
    assert answer.status == status
    assert error["expected"].startswith(expected)
    assert error["found"].startswith(found)
    assert error["remedy"]
    assert error["request_id"] == answer.headers["x-request-id"]


def test_types_that_are_not_there_are_refused(server: str) -> None:
    answer = send(server, OBJECTS, FILE, {"Accept": "text/html"})
    assert answer.status == 406
    assert document(answer)["error"]["found"] == "Accept: text/html"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"workers": 0}, "workers must be at least 1, found 0"),
        ({"queue": -1}, "queue must be at least 0, found -1"),
        ({"timeout": 0.0}, "timeout must be above 0, found 0"),
        ({"max_pixels": 1 << 40}, r"max_pixels must lie in 1..268435456, found"),
        ({"model": "a/b"}, "model must have 1 to 100 letters, digits, .* found 'a/b'"),
        *(
            ({"origins": (origin,)}, "origins must have a scheme, a host and perhaps a port")
            for origin in ("*", "example.org", "https://example.org/", "https://*.example.org")
        ),
    ],
)
def test_wrong_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ServeOptions(**values)
