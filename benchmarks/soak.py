# SPDX-License-Identifier: Apache-2.0
"""Memory and descriptors of ``foveate serve`` under mixed requests over time.

    python benchmarks/soak.py --minutes 60 --json benchmarks/results/soak.json

Clients send images of many sizes, damaged ones among them, keep their connections or not, and leave
some before the answer. The exit status is 1 if the server has grown after a warm-up, if it failed, or
if it stopped badly.
"""

from __future__ import annotations

import argparse
import http.client
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figures import Cell, Figure, Measurement, Result, begin, conditions, report
from measuring import encoded, serving, status_of

TITLE = "A server over time"
QUESTION = """\
Whether `foveate serve` takes more memory or more descriptors the longer it runs. Clients send images of many sizes, one in
ten of them damaged, keep their connections or not, and leave one in ten before the answer. The time begins after
a warm-up, in which images of many sizes follow one another: the memory that the networks keep for their next runs
depends on the order of the sizes, and grows until it serves all of them. Medians over tenths of the time."""
SIZES = ((64, 48), (320, 240), (480, 640), (640, 480), (1024, 768), (2000, 1500))
WARM_UP = 4.0  # minutes; memory grows for 1 on a quiet machine, and for 3 beside other work
GROWTH = 1.05  # of the median of the last tenth over that of the first


@dataclass(frozen=True)
class State:
    """The server at a moment: requests sent so far, resident bytes, open descriptors, threads."""

    requests: int
    memory: int
    descriptors: int
    threads: int


def main() -> int:
    """Run the server and its clients, print the result, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    before = begin()
    with serving() as (url, server):
        address = url.removeprefix("http://")
        statuses, states = run(server.pid, address, arguments.clients, 60 * arguments.minutes)
    ended = server.returncode
    print(f"Requests by status: {dict(sorted(statuses.items()))}; the server ended with {ended}")
    tenths = [tenth(states, number) for number in range(10)]
    measurement = Measurement(
        caption=f"{arguments.minutes:g} minutes after {WARM_UP:g} of warm-up, {arguments.clients} clients:",
        conditions=conditions(before, "onnxruntime-gpu", "uvicorn"),
        columns=("tenth of the time", "requests so far", "memory, MB", "descriptors", "threads"),
        rows=tuple((str(n), *cells(one)) for n, one in enumerate(tenths, 1)),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)
    failed = statuses["500"] or statuses["none"] or ended
    return int(bool(failed) or has_grown(tenths[0], tenths[-1]))


def run(pid: int, address: str, clients: int, seconds: float) -> tuple[Counter[str], list[State]]:
    """Send requests, and return their number by status, and the states of the server.

    The states are those of some seconds after the warm-up.
    """
    statuses: list[str] = []
    end = time.monotonic() + 60 * WARM_UP + seconds
    threads = [
        threading.Thread(
            target=send, args=(address, random.Random(seed), end, statuses), daemon=True
        )
        for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    time.sleep(60 * WARM_UP)
    states = []
    while time.monotonic() < end:
        states.append(state_of(pid, len(statuses)))
        time.sleep(seconds / 1000)
    for thread in threads:
        thread.join()
    return Counter(statuses), states


def send(address: str, chance: random.Random, end: float, statuses: list[str]) -> None:
    """Send the requests of a client, one after the other, until ``end``."""
    files = {size: encoded(*size) for size in SIZES}
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(address, timeout=120)
        for _ in range(chance.randint(1, 20)):
            body = files[chance.choice(SIZES)]
            if chance.random() < 0.1:
                body = body[: chance.randrange(1, len(body))]
            try:
                connection.request("POST", "/v1/objects", body)
                if chance.random() < 0.1:
                    statuses.append("left")
                    break
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                statuses.append("none")
                break
            statuses.append(str(answer.status))
            if answer.status in (429, 503):
                time.sleep(1.0)
        connection.close()


def state_of(pid: int, requests: int) -> State:
    """Return the state of a process."""
    status = status_of(pid)
    return State(
        requests=requests,
        memory=1024 * status["VmRSS"],
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=status["Threads"],
    )


def tenth(states: Sequence[State], number: int) -> Sequence[State]:
    """Return the states of a tenth of the time."""
    return states[len(states) * number // 10 : len(states) * (number + 1) // 10]


def cells(states: Sequence[State]) -> tuple[Cell, ...]:
    """Return the requests until the last of some states, and the medians of the others."""
    return (
        f"{states[-1].requests:,}",
        Figure.of([state.memory / 1e6 for state in states]),
        Figure.of([state.descriptors for state in states]),
        Figure.of([state.threads for state in states]),
    )


def has_grown(early: Sequence[State], late: Sequence[State]) -> bool:
    """Return whether the server takes more than it took before."""
    for name in ("memory", "descriptors", "threads"):
        first, last = (
            np.median([getattr(one, name) for one in states]) for states in (early, late)
        )
        if last > GROWTH * first:
            print(f"{name}: {first:,.0f} in the first tenth, {last:,.0f} in the last")
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
