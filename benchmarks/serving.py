# SPDX-License-Identifier: Apache-2.0
"""What `foveate serve` costs beside the work on an image.

    python benchmarks/serving.py --rounds 15 --json benchmarks/results/serving.json

Each server runs in a process of its own, and one client sends requests over a connection that stays
open.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn

import foveate
from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.bench.floor import NullDevice, null_engines
from foveate.bundle import read_bundle
from foveate.images.decoding import decode
from foveate.protocol.connection import Connection, ServerUrl
from foveate.runtime import Pipeline
from foveate.serve import ServeOptions, create_app
from foveate.serve.server import Address, run_server
from measuring import encoded, in_turns, parser_of, ratio

TITLE = "What serving costs"
QUESTION = """\
What `foveate serve` costs beside the work on an image. With a model that does nothing, its requests per second are
compared with those of uvicorn with an application that decodes the image and nothing else; the aim is 0.6. With `mini`,
its median time per request is compared with that of decoding and finding in a process without a server; the aim is 3 %
more. One client, one request at a time."""
_BATCH = 200  # requests with a model that does nothing: one takes milliseconds


def main() -> None:
    """Measure and print the results."""
    parser = parser_of(__doc__, rounds=15)
    parser.add_argument("--preset", default="fast", help="Of mini.")
    arguments = parser.parse_args()
    found = [without_model(size, arguments.rounds) for size in ((64, 48), (640, 480), (2000, 1500))]
    result = Result(
        title=TITLE,
        question=QUESTION,
        measurements=(*found, with_mini(arguments.preset, arguments.rounds)),
    )
    report(result, arguments.json)


def without_model(size: tuple[int, int], rounds: int) -> Measurement:
    """Measure the requests per second with a model that does nothing."""
    before, content = begin(pairs=rounds), encoded(*size)
    with server(serve_bare) as bare, server(serve_nothing) as served:
        runs = {
            "uvicorn": lambda: batch(bare, content),
            "foveate serve": lambda: batch(served, content),
        }
        seconds = in_turns(runs, rounds)
    return Measurement(
        caption=f"JPEG of {size[0]} x {size[1]}, a model that does nothing, {_BATCH} requests per round:",
        conditions=conditions(before, "starlette", "uvicorn"),
        columns=("", "requests per second", "relative to uvicorn"),
        rows=tuple(
            (
                name,
                Figure.of([_BATCH / one for one in seconds[name]]),
                ratio(seconds["uvicorn"], seconds[name]),
            )
            for name in runs
        ),
    )


def with_mini(preset: str, rounds: int) -> Measurement:
    """Measure the time of a request for the objects that `mini` finds."""
    before, content = begin(threads=2, pairs=rounds), encoded()
    options = foveate.PipelineOptions(threads=2, preset=preset)
    with foveate.load("mini", options=options) as pipeline, server(serve_mini, preset) as served:
        runs: dict[str, Callable[[], object]] = {
            "in process": lambda: pipeline(decode(io.BytesIO(content))),
            "foveate serve": lambda: find(served, content),
        }
        seconds = in_turns(runs, rounds, warm_up=2)
    return Measurement(
        caption=f"JPEG of 640 x 480, `mini` with `--preset {preset}`:",
        conditions=conditions(before, "onnxruntime-gpu", "starlette", "uvicorn"),
        columns=("", "time, ms", "relative to the process without a server"),
        rows=tuple(
            (
                name,
                Figure.of([1e3 * one for one in seconds[name]]),
                ratio(seconds[name], seconds["in process"]),
            )
            for name in runs
        ),
    )


def batch(connection: Connection, content: bytes) -> None:
    """Send many requests."""
    for _ in range(_BATCH):
        find(connection, content)


def find(connection: Connection, content: bytes) -> None:
    """Send a request, and read its answer."""
    answer = connection.request("POST", "/v1/objects", content)
    assert answer.status == 200, answer
    json.loads(answer.body)


@contextmanager
def server(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run a server in a process of its own; yield a connection to it."""
    context = multiprocessing.get_context("spawn")
    ports = context.SimpleQueue()
    process = context.Process(target=target, args=(ports.put, *arguments), daemon=True)
    process.start()
    try:
        url = ServerUrl.parse(f"http://127.0.0.1:{ports.get()}")
        time.sleep(1.0)  # uvicorn alone listens a moment later
        with closing(Connection(url, 60.0)) as connection:
            yield connection
    finally:
        process.terminate()
        process.join()


def serve_bare(tell: Callable[[int], None]) -> None:
    """Serve with uvicorn, and do nothing but decode images."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        await asyncio.to_thread(decode, io.BytesIO(b"".join(parts)))
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"objects": []}'})

    with Address(port=0).listen() as bound:
        tell(bound.getsockname()[1])
        config = uvicorn.Config(application, lifespan="off", log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[bound])


def serve_nothing(tell: Callable[[int], None]) -> None:
    """Serve a pipeline that does nothing."""
    bundle, engines = read_bundle("mini", lambda found: (found, null_engines(found.manifest)))
    options = foveate.PipelineOptions(top_k=4)  # the fewest steps between the networks
    _serve(tell, Pipeline(bundle, engines, device=NullDevice(), options=options))


def serve_mini(tell: Callable[[int], None], preset: str) -> None:
    """Serve `mini`."""
    _serve(tell, foveate.load("mini", options=foveate.PipelineOptions(threads=2, preset=preset)))


def _serve(tell: Callable[[int], None], pipeline: Pipeline) -> None:
    options, address = ServeOptions(), Address(port=0)
    with pipeline, address.listen() as bound:
        app = create_app([pipeline], options)
        port = bound.getsockname()[1]
        run_server(app, address, bound, options, on_ready=lambda: tell(port))


if __name__ == "__main__":
    main()
