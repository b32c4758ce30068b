# SPDX-License-Identifier: Apache-2.0
"""A server that is sent malformed requests answers each rightly, and the others as if alone."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from tests.samples.malformed import FILE, GONE, Malformed, malformed
from tests.samples.serving import ServerProcess, document, send, server_process

# Malformed requests at a time. There are places for more, so that none is refused for want of one.
CLIENTS = 12


@pytest.fixture(scope="module")
def server(
    contrast_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("faults")
    with server_process(contrast_bundle, folder, "--read-timeout", "1", "--queue", "64") as running:
        yield running


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_malformed_requests_are_answered_rightly_and_cost_nothing_else(
    server: ServerProcess, count: int
) -> None:
    expected = document(send(server.url, "/v1/objects", FILE))["objects"]
    assert expected
    draw, port = random.Random(count), urlsplit(server.url).port
    assert port is not None
    requests = [malformed(draw) for _ in range(count)]
    done, others = threading.Event(), Counter[bool]()

    def send_valid() -> None:
        while not done.is_set():
            answer = send(server.url, "/v1/objects", FILE)
            others[answer.status == 200 and document(answer)["objects"] == expected] += 1

    beside = threading.Thread(target=send_valid)
    beside.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(lambda one: one.send(port), requests))
    finally:
        done.set()
        beside.join()

    wrong = [
        text for one, answer in zip(requests, answers, strict=True) if (text := _wrong(one, answer))
    ]
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:20])
    assert others[True]
    assert not others[False]
    assert document(send(server.url, "/v1/objects", FILE))["objects"] == expected
    assert '"status": 500' not in server.log_file.read_text("utf-8")


@pytest.mark.slow
def test_malformed_requests_leave_no_memory_threads_or_descriptors(server: ServerProcess) -> None:
    port = urlsplit(server.url).port
    assert port is not None

    def send_all(seed: int) -> dict[str, int]:
        draw = random.Random(seed)
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda one: one.send(port), [malformed(draw) for _ in range(500)]))
        assert send(server.url, "/v1/objects", FILE).status == 200
        return _resources(server.process.pid)

    send_all(1)
    before, after = send_all(2), send_all(3)
    assert after["threads"] <= before["threads"]
    assert after["descriptors"] <= before["descriptors"] + CLIENTS  # those that are being closed
    assert after["kilobytes"] <= before["kilobytes"] + 8192


def _wrong(request: Malformed, answer: bytes) -> str:
    """Return what is wrong with an answer, or an empty string."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else GONE
    if request.leaves and status is GONE:
        return ""
    if status not in request.statuses:
        return f"{request.name}: {status}, expected {request.statuses}: {answer[:300]!r}"
    if status in (GONE, 200):
        return ""
    error = json.loads(body)["error"]
    whole = isinstance(error, str) or {"expected", "found", "remedy"} <= error.keys()
    return "" if whole else f"{request.name}: {body!r}"


def _resources(process: int) -> dict[str, int]:
    """Return the resident memory, the threads and the open descriptors of a process."""
    lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {
        "kilobytes": int(values["VmRSS"].split()[0]),
        "threads": int(values["Threads"]),
        "descriptors": len(list(Path(f"/proc/{process}/fd").iterdir())),
    }
