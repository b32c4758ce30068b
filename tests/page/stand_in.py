# SPDX-License-Identifier: Apache-2.0
"""A server of the live page that answers every image with the same record."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.page.records import record

from foveate.page import page


@dataclass
class StandIn:
    """What the server does, and what it was sent.

    Args:
        url: Address of the page.
        key: The key that it asks for.
        refusal: Status, type and text of the answer to an image, instead of a record.
        images: Content of each image that it was sent.
        most: Largest number of images at a time.
    """

    url: str = ""
    key: str = ""
    refusal: tuple[int, str, str] | None = None
    images: list[bytes] = field(default_factory=list)
    most: int = 0


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Serve the live page at an address with a path."""
    state, lock, running = StandIn(), threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, "text/html; charset=utf-8", page(live=True))

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                running[0] += 1
                state.most = max(state.most, running[0])
            if self.path != "/below/v1/page":
                self._answer(404, "text/plain", f"nothing at {self.path}")
            elif state.key and self.headers["Authorization"] != f"Bearer {state.key}":
                self._answer(401, "application/json", '{"error": {"message": "wrong key"}}')
            elif state.refusal is not None:
                self._answer(*state.refusal)
            else:
                state.images.append(content)
                text = json.dumps(record("image", image=False))
                self._answer(200, "application/json", text)
            with lock:
                running[0] -= 1

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/below/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state
        server.shutdown()
        thread.join()
