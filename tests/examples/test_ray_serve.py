# SPDX-License-Identifier: Apache-2.0
"""The example for Ray Serve, with real Ray: a replica is killed under load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.samples.images import write_small_cat
from tests.samples.ray_cluster import RayCluster, wait_until

EXAMPLE = "examples/ray_serve.py"
REPLICA = "ray::ServeReplica"


class Service:
    """A running service.

    Args:
        port: Its port.
        image: The file that is sent.
    """

    def __init__(self, port: int, image: Path) -> None:
        self._port, self._image = port, image.read_bytes()

    def is_ready(self) -> bool:
        try:
            return self._send("GET", "/v2/health/ready")[0] == 200
        except OSError:
            return False

    def find(self) -> tuple[int, object]:
        """Send the image, and return the status and the objects."""
        status, body = self._send("POST", "/v1/objects", self._image)
        return status, json.loads(body)["objects"] if status == 200 else None

    def _send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        with closing(connection):
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()


@contextmanager
def load(service: Service, clients: int) -> Iterator[list[tuple[int, object]]]:
    """Send requests from several clients while the block runs, and yield the growing answers."""
    answers: list[tuple[int, object]] = []
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            answers.append(service.find())

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_a_service_survives_the_loss_of_a_replica_and_answers_nothing_wrong(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = ray_cluster.start(EXAMPLE, "--port", str(port))
    service = Service(port, write_small_cat(tmp_path / "cat.png"))
    wait_until(lambda: service.is_ready() or program.poll() is not None)
    assert program.poll() is None, ray_cluster.log.read_text(encoding="utf-8")
    wait_until(lambda: len(ray_cluster.processes(REPLICA)) >= 2)
    status, expected = service.find()
    assert status == 200
    assert expected

    with load(service, clients=4) as answers:
        wait_until(lambda: len(answers) >= 8)
        lost = ray_cluster.processes(REPLICA)[0]
        os.kill(lost, signal.SIGKILL)
        killed = len(answers)
        wait_until(lambda: len(set(ray_cluster.processes(REPLICA)) - {lost}) >= 2)
        replaced = len(answers)
        wait_until(lambda: len(answers) >= replaced + 12)

    assert {status for status, _ in answers[:8]} == {200}
    assert all(objects == expected for status, objects in answers if status == 200)
    failed = [status for status, _ in answers[killed - 4 :] if status != 200]
    assert set(failed) <= {500, 503}
    assert len(failed) <= 4  # requests in the lost replica; no client lost a second one
    assert [status for status, _ in answers[-8:]] == [200] * 8
