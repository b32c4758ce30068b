# SPDX-License-Identifier: Apache-2.0
"""Malformed requests, and the status with which each must be answered."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.samples.serving import encoded, square

FILE = encoded(square())
GONE = None
"""In place of a status: the client leaves, or may leave, without an answer."""


@dataclass(frozen=True)
class Malformed:
    """A request.

    Args:
        name: What is wrong with it.
        parts: What is sent, part by part.
        statuses: The statuses with which it may be answered.
        pause: Seconds between the parts.
        leaves: Whether the client closes the connection after the last part.
    """

    name: str
    parts: tuple[bytes, ...]
    statuses: tuple[int | None, ...]
    pause: float = 0.0
    leaves: bool = False

    def send(self, port: int, timeout: float = 30.0) -> bytes:
        """Send it over a connection of its own, and return what is answered first."""
        content = b""
        with (
            socket.create_connection(("127.0.0.1", port), timeout) as connection,
            contextlib.suppress(ConnectionError),  # a request that is still being sent was refused
        ):
            for part in self.parts:
                connection.sendall(part)
                if self.pause:
                    content += _received_within(connection, self.pause)
            while not self.leaves and _first_answer(content) is None:
                more = connection.recv(1 << 16)
                if not more:
                    break
                content += more
        return _first_answer(content) or content


def malformed(draw: random.Random) -> Malformed:
    """Return a malformed request, drawn at random."""
    return draw.choice(_KINDS)(draw)


def post(path: str, body: bytes, *headers: str, length: int | str | None = None) -> bytes:
    """Return a request with a body, whose length may be told wrongly."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _cut_body(draw: random.Random) -> Malformed:
    whole = post("/v1/objects", FILE)
    return Malformed("body cut", (whole[: -draw.randrange(1, len(FILE))],), (GONE,), leaves=True)


def _stalled(draw: random.Random) -> Malformed:
    whole = post("/v1/objects", FILE)
    return Malformed("body stalls", (whole[: -draw.randrange(1, len(FILE))],), (408,))


def _stalled_head(draw: random.Random) -> Malformed:
    head = post("/v1/objects", b"")
    return Malformed("head stalls", (head[: draw.randrange(1, len(head) - 2)],), (408,))


def _slow_sender(draw: random.Random) -> Malformed:
    head = post("/v1/objects", FILE)[:60]
    step = draw.randrange(1, 4)
    parts = tuple(head[i : i + step] for i in range(0, len(head), step))
    return Malformed("head byte by byte", parts, (408,), pause=0.1)


def _leaves(draw: random.Random) -> Malformed:
    body = post(draw.choice(["/v1/objects", "/v1/proposals", "/v1/page"]), FILE)
    return Malformed("leaves", (body,), (GONE, 200), pause=draw.random() * 0.05 + 1e-3, leaves=True)


def _damaged_image(draw: random.Random) -> Malformed:
    return Malformed("file cut", (post("/v1/objects", FILE[: draw.randrange(1, 200)]),), (400,))


def _noise_as_image(draw: random.Random) -> Malformed:
    body = draw.randbytes(draw.randrange(1, 4000))
    return Malformed("noise as file", (post("/v1/proposals", body),), (400,))


def _empty(draw: random.Random) -> Malformed:
    return Malformed("empty", (post(draw.choice(["/v1/objects", "/v1/proposals"]), b""),), (400,))


def _short_length(draw: random.Random) -> Malformed:
    whole = post("/v1/objects", FILE, length=draw.randrange(1, 200))
    return Malformed("length too small", (whole,), (400,))


def _bad_length(draw: random.Random) -> Malformed:
    length = draw.choice(["-1", "12a", "0x10", "1e3", "", "5, 6", "99999999999999999999999"])
    return Malformed(f"length {length!r}", (post("/v1/objects", b"", length=length),), (400,))


def _two_lengths(draw: random.Random) -> Malformed:
    extra = f"Content-Length: {draw.randrange(1000)}"
    return Malformed("two lengths", (post("/v1/objects", FILE, extra),), (400,))


def _too_long(draw: random.Random) -> Malformed:
    length = (1 << 25) + draw.randrange(1, 1 << 40)
    return Malformed("too long", (post("/v1/objects", b"", length=length),), (413,))


def _bad_chunks(draw: random.Random) -> Malformed:
    head = b"POST /v1/objects HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = draw.choice(
        [b"zz\r\n", b"-4\r\nabcd\r\n", b"ffffffffffffffffffffffffff\r\n", b"4\r\nab"]
    )
    return Malformed("bad chunks", (head + chunk,), (400, 408, GONE))


def _compressed(draw: random.Random) -> Malformed:
    coding = draw.choice(["gzip", "br", "deflate, gzip"])
    head = post("/v1/objects", zlib.compress(FILE), f"Content-Encoding: {coding}")
    return Malformed("compressed", (head,), (415,))


def _bomb(draw: random.Random) -> Malformed:
    side = draw.choice([20_000, 60_000, 100_000, (1 << 31) - 1])
    body = _png(side, side, zlib.compress(bytes(1 << 20), 9))
    return Malformed("bomb", (post("/v1/objects", body),), (400, 413))


def _filled_bomb(draw: random.Random) -> Malformed:
    height = draw.randrange(9000, 12000)
    rows = zlib.compressobj(9)
    content = b"".join(rows.compress(bytes(6001)) for _ in range(height)) + rows.flush()
    return Malformed("filled bomb", (post("/v1/objects", _png(6000, height, content)),), (413,))


def _no_http(draw: random.Random) -> Malformed:
    noise = draw.choice(
        [draw.randbytes(60), b"\x16\x03\x01\x02\x00", b"GET\r\n", b"HELO there\r\n"]
    )
    return Malformed("no HTTP", (noise + b"\r\n\r\n",), (400,))


def _long_head(draw: random.Random) -> Malformed:
    value = "x" * draw.randrange(1 << 15, 1 << 17)
    where = draw.choice(["/v1/objects", f"/v1/objects?{value}", f"/{value}"])
    return Malformed("long head", (post(where, FILE, f"X-Long: {value}"),), (431, GONE))


def _wrong_route(draw: random.Random) -> Malformed:
    path = draw.choice(["/", "/v1/bundle", "/v1/objects/../../etc/passwd", "/nothing", "/v3"])
    return Malformed("wrong route", (post(path, FILE),), (404, 405))


def _wrong_query(draw: random.Random) -> Malformed:
    query = draw.choice(["score_threshold=nan", "score_threshold=2", "max_detections=-1", "file=a"])
    return Malformed(f"query {query}", (post(f"/v1/objects?{query}", FILE),), (400,))


def _wrong_host(draw: random.Random) -> Malformed:
    host = draw.choice(["evil.example", "127.0.0.1.evil.example", "[", ""])
    head = f"GET /v1/bundle HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    return Malformed(f"host {host!r}", (head,), (400, 403))


def _wrong_tensors(draw: random.Random) -> Malformed:
    one: dict[str, object] = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [2, 2, 3],
        "data": [0] * 12,
    }
    wrong: dict[str, object] = draw.choice(
        [
            {"shape": [2, 2, 4]},
            {"shape": [-1, 2, 3]},
            {"shape": [1 << 40, 1 << 40, 3]},
            {"shape": "2"},
            {"datatype": "FP32"},
            {"datatype": "COMPLEX"},
            {"data": [300] * 12},
            {"data": ["a"] * 12},
            {"data": [0] * 11},
            {"name": "mask"},
            {"parameters": {"binary_data_size": 12}},
            {"name": 5},
        ]
    )
    document = draw.choice(
        [{"inputs": [one | wrong]}, {"inputs": [one, one]}, {"inputs": []}, {"inputs": one}, {}, []]
    )
    body = json.dumps(document).encode()
    return Malformed("wrong tensors", (post("/v2/models/foveate/infer", body),), (400,))


def _wrong_binary(draw: random.Random) -> Malformed:
    tensor = {"name": "encoded", "datatype": "BYTES", "shape": [1]}
    size = draw.choice([0, 3, 4, 11, 1 << 33, -1, len(FILE) + 4])
    document = json.dumps(
        {"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}
    ).encode()
    length = draw.choice([len(document), len(document) - 1, 1 << 40, -5, "abc"])
    told = draw.choice([0, 1 << 31, len(FILE) - 1])  # never the length of the file
    body = document + struct.pack("<I", told) + FILE
    header = f"Inference-Header-Content-Length: {length}"
    return Malformed("wrong binary", (post("/v2/models/foveate/infer", body, header),), (400,))


def _deep_json(draw: random.Random) -> Malformed:
    body = b'{"inputs":' + b"[" * draw.randrange(1000, 100_000)
    return Malformed("deep JSON", (post("/v2/models/foveate/infer", body),), (400,))


_KINDS: tuple[Callable[[random.Random], Malformed], ...] = (
    *(_cut_body, _stalled, _stalled_head, _slow_sender, _leaves, _damaged_image, _noise_as_image),
    *(_empty, _short_length, _bad_length, _two_lengths, _too_long, _bad_chunks, _compressed, _bomb),
    *(_filled_bomb, _no_http, _long_head, _wrong_route, _wrong_query, _wrong_host),
    *(_wrong_tensors, _wrong_binary, _deep_json),
)


def _png(width: int, height: int, content: bytes) -> bytes:
    """Return a PNG file of one channel with any content."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    blocks = [(b"IHDR", head), (b"IDAT", content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in blocks
    )


def _received_within(connection: socket.socket, seconds: float) -> bytes:
    before = connection.gettimeout()
    connection.settimeout(seconds)
    try:
        return connection.recv(1 << 16)
    except TimeoutError:
        return b""
    finally:
        connection.settimeout(before)


def _first_answer(content: bytes) -> bytes | None:
    """Return the first of the answers, or None if it has not arrived completely."""
    head, found, body = content.partition(b"\r\n\r\n")
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lines[0].partition(b":")[2]) if found and lines else 0
    return head + found + body[:length] if lines and found and len(body) >= length else None
