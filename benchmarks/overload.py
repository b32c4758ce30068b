# SPDX-License-Identifier: Apache-2.0
"""A server that is sent more requests than it can answer.

    python benchmarks/overload.py --seconds 300 --json benchmarks/results/overload.json

`foveate serve` runs in a process of its own. One client measures the time of a request without load,
and with it the rate that the server can hold; then requests arrive at a multiple of that rate, on a
seeded Poisson schedule, however long their answers take. Every answer is compared with the first.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.protocol.connection import Answer, Connection, ServerUrl
from measuring import encoded, parser_of, serving, status_of

TITLE = "A server under overload"
QUESTION = """\
What becomes of requests that arrive faster than `foveate serve` can answer them. The aims are that those which are taken
are answered within twice the time of a server without load (99th percentiles), that the others are refused within 20 ms,
that no answer is wrong, and that memory does not grow. Times are those of the client, on the machine of the server."""
_POLL_S = 5.0


@dataclass(frozen=True)
class Sample:
    """A request: its status (0 if the connection failed), seconds, and whether its answer is right."""

    status: int
    seconds: float
    right: bool


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=60)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--multiple", type=float, default=2.0, help="Of the rate that it can hold.")
    parser.add_argument("--options", default="--preset fast --threads 2", help="Of the server.")
    arguments = parser.parse_args()
    before = begin()
    with serving(*arguments.options.split()) as (url, process):
        sender = _Sender(url)
        alone = [sender.send() for _ in range(arguments.rounds)]
        rate = arguments.multiple / float(np.mean([one.seconds for one in alone]))
        memory: list[int] = []

        def note_memory() -> None:
            memory.append(status_of(process.pid)["VmRSS"] >> 10)

        note_memory()
        loaded = sender.send_at(rate, arguments.seconds, note_memory)
    measurement = Measurement(
        caption=f"{len(loaded)} requests of a photograph of 640 x 480 in {arguments.seconds:g} s, "
        f"{arguments.multiple:g} times as many as `foveate serve mini {arguments.options}` can answer:",
        conditions=conditions(before, "onnxruntime-gpu", "starlette", "uvicorn"),
        columns=("", "requests", "time, ms", "99th percentile, ms", "wrong answers"),
        rows=(
            _row("without load", alone),
            _row("taken under load", [one for one in loaded if one.status == 200]),
            _row("refused under load", [one for one in loaded if one.status in (429, 503)]),
            _row("failed under load", [one for one in loaded if one.status not in (200, 429, 503)]),
            ("memory, MB: at the start", Figure(value=memory[0]), None, None, None),
            (
                "memory, MB: highest, and at the end",
                f"{max(memory)}, {memory[-1]}",
                None,
                None,
                None,
            ),
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


class _Sender:
    """A client, which knows the right answer."""

    def __init__(self, url: str) -> None:
        self._url = ServerUrl.parse(url)
        self._body = encoded()
        self._objects: Any = None
        self.send()  # the first image is slower
        self._objects = _objects(self._post())

    def send(self) -> Sample:
        """Send a request over a connection of its own."""
        start = time.perf_counter()
        try:
            answer = self._post()
        except Exception:  # noqa: BLE001 - whatever it is, the request failed
            return Sample(0, time.perf_counter() - start, right=False)
        seconds = time.perf_counter() - start
        right = answer.status != 200 or _objects(answer) == self._objects
        return Sample(answer.status, seconds, right)

    def send_at(self, rate: float, seconds: float, poll: Any) -> list[Sample]:
        """Send requests at a mean rate per second, whose arrivals are a Poisson process."""
        samples: list[Sample] = []
        draw, threads = random.Random(0), []
        begin_, arrival, polled = time.perf_counter(), 0.0, 0.0
        while (arrival := arrival + draw.expovariate(rate)) < seconds:
            time.sleep(max(0.0, begin_ + arrival - time.perf_counter()))
            thread = threading.Thread(target=lambda: samples.append(self.send()))
            thread.start()
            threads.append(thread)
            if arrival > polled + _POLL_S:
                polled = arrival
                poll()
        for thread in threads:
            thread.join()
        poll()
        return samples

    def _post(self) -> Answer:
        with closing(Connection(self._url, 60.0)) as connection:
            return connection.request("POST", "/v1/objects", self._body)


def _objects(answer: Answer) -> Any:
    return json.loads(answer.body)["objects"]


def _row(name: str, samples: list[Sample]) -> tuple[Any, ...]:
    times = [one.seconds * 1e3 for one in samples]
    if not times:
        return name, Figure(value=0), None, None, None
    tail = Figure(value=float(f"{np.quantile(times, 0.99):.4g}"))
    wrong = Figure(value=sum(not one.right for one in samples))
    return name, Figure(value=len(times)), Figure.of(times), tail, wrong


if __name__ == "__main__":
    main()
