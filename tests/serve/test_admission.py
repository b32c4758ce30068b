# SPDX-License-Identifier: Apache-2.0
"""More requests than slots, clients that leave, and requests that take too long."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from starlette.applications import Starlette
from tests.samples.serving import Gate, document, encoded, send, server_thread, square, until

import foveate
from foveate.protocol.connection import Answer
from foveate.serve import ServeOptions, create_app
from foveate.serve.admission import Admission

FILE = encoded(square())
OBJECTS = "/v1/objects"


class Served:
    """A server whose pipelines wait at a gate."""

    def __init__(self, url: str, app: Starlette, gate: Gate) -> None:
        self.url, self.gate = url, gate
        self._state = app.state
        self._clients = ThreadPoolExecutor(16)

    @property
    def admission(self) -> Admission:
        found: Admission = self._state.service.admission
        return found

    def start(self) -> Future[Answer]:
        """Send an image, without waiting for the answer."""
        return self._clients.submit(send, self.url, OBJECTS, FILE)

    def start_and_leave(self, *, waiting: int, busy: int) -> None:
        """Send an image, and close the connection when the server has come so far."""
        with closing(open_request(self.url, len(FILE))) as client:
            client.sendall(FILE)
            until(lambda: (self.admission.waiting, self.admission.busy) == (waiting, busy))


def open_request(url: str, length: int) -> socket.socket:
    """Send the head of a request with a body of some length, and return the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    client = socket.create_connection((host, int(port)), timeout=30)
    client.sendall(
        f"POST {OBJECTS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    return client


@pytest.fixture
def served(contrast_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    options = ServeOptions(**{"slots": 1, "queue": 1, **getattr(request, "param", {})})
    gate = Gate()
    with ExitStack() as stack:
        pipelines = [
            stack.enter_context(gate.pipeline(contrast_bundle)) for _ in range(options.workers)
        ]
        app = create_app(pipelines, options)
        url = stack.enter_context(server_thread(app, options))
        stack.callback(gate.open)
        yield Served(url, app, gate)


def test_a_request_too_many_is_refused_at_once(served: Served) -> None:
    first, second = served.start(), served.start()
    until(lambda: (served.admission.waiting, served.admission.busy) == (1, 1))
    refused = send(served.url, OBJECTS, FILE)
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    error = document(refused)["error"]
    assert error["found"] == "1 image in work and 1 request waiting"
    assert error["remedy"] == f"send it again after {refused.headers['retry-after']} s"
    served.gate.open()
    assert first.result().status == second.result().status == 200
    assert served.admission.idle


def test_a_body_is_not_read_if_there_is_no_room_for_it(served: Served) -> None:
    waiting = [served.start(), served.start()]
    until(lambda: (served.admission.waiting, served.admission.busy) == (1, 1))
    with closing(open_request(served.url, 1000)) as client:  # and no body
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 429 ")
    served.gate.open()
    assert [one.result().status for one in waiting] == [200, 200]


@pytest.mark.parametrize("served", [{"workers": 2, "queue": 0}], indirect=True)
def test_pipelines_take_turns(served: Served) -> None:
    both = [served.start(), served.start()]
    # Each pipeline has run one network: a single one would have begun the second image later.
    until(lambda: served.gate.runs["propose"] == 2)
    assert send(served.url, OBJECTS, FILE).status == 429
    served.gate.open()
    assert [one.result().status for one in both] == [200, 200]


def test_a_client_that_leaves_the_queue_makes_room(served: Served) -> None:
    first = served.start()
    until(lambda: served.admission.busy == 1)
    served.start_and_leave(waiting=1, busy=1)
    until(lambda: served.admission.waiting == 0)
    second = served.start()
    until(lambda: served.admission.waiting == 1)
    served.gate.open()
    assert first.result().status == second.result().status == 200
    canceled = 'nv_inference_request_failure{model="foveate",reason="CANCELED",version="1"} 1.0'
    assert canceled in send(served.url, "/metrics").body.decode()


def test_a_client_that_leaves_frees_its_slot_between_networks(served: Served) -> None:
    served.start_and_leave(waiting=0, busy=1)
    served.gate.open()
    until(lambda: served.admission.busy == 0)
    assert served.gate.runs["refine"] == 0
    assert served.start().result().status == 200
    assert served.gate.runs["refine"] > 0


@pytest.mark.parametrize("served", [{"timeout": 0.3}], indirect=True)
def test_a_request_that_takes_too_long_ends(served: Served) -> None:
    late = served.start().result()
    assert late.status == 504
    assert document(late)["error"]["expected"] == "a result within 0.3 s"
    assert served.admission.busy == 1  # the network still runs
    served.gate.open()
    until(lambda: served.admission.busy == 0)
    assert served.gate.runs["refine"] == 0


@pytest.mark.parametrize("served", [{"timeout": 0.3}], indirect=True)
def test_a_request_that_waits_too_long_ends(served: Served) -> None:
    with closing(open_request(served.url, len(FILE))) as client:
        client.sendall(FILE)
        until(lambda: served.admission.busy == 1)
        assert served.start().result().status == 504
        assert served.admission.waiting == 0


def test_an_error_inside_shows_nothing_and_costs_no_other_request(
    contrast_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with foveate.load(contrast_bundle) as pipeline:
        monkeypatch.setattr(pipeline.engines["refine"], "run", fail)
        app = create_app([pipeline])
        with server_thread(app, ServeOptions()) as url:
            answer = send(url, OBJECTS, FILE)
            monkeypatch.undo()
            assert send(url, OBJECTS, FILE).status == 200
    assert answer.status == 500
    error = document(answer)["error"]
    assert error["found"] == "an internal error, which is in the server's log"
    assert "/secret/path" not in answer.body.decode()
    assert any("/secret/path" in str(record.__dict__.get("fields")) for record in caplog.records)


def fail(inputs: object, outputs: object) -> None:
    del inputs, outputs
    raise RuntimeError("/secret/path is lost")


def test_a_bad_request_costs_no_other_one(served: Served) -> None:
    served.gate.open()
    for body, status in ((FILE, 200), (FILE[:-40], 400), (b"GIF89a", 400), (FILE, 200)):
        assert send(served.url, OBJECTS, body).status == status
    assert served.admission.idle
