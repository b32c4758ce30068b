# SPDX-License-Identifier: Apache-2.0
"""The server of Foveate in a process or a thread, and requests to it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette

import foveate
from foveate.protocol.connection import Answer, Connection, ServerUrl
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.serve import ServeOptions
from foveate.serve.server import Address, server_config


def square(height: int = 240, width: int = 320) -> np.ndarray:
    """Return a red square on black, which the contrast bundle finds."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 4 : height // 4 + 80, width // 4 : width // 4 + 80, 0] = 255
    return pixels


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, pixels[..., ::-1])[1])


def send(
    url: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    method: str | None = None,
    timeout: float = 60.0,
) -> Answer:
    """Send a request over a connection of its own: GET, or POST with a body."""
    with closing(Connection(ServerUrl.parse(url), timeout)) as connection:
        return connection.request(method or ("POST" if body else "GET"), path, body, headers)


def document(answer: Answer) -> Any:
    return json.loads(answer.body)


@dataclass
class ServerProcess:
    """A running ``foveate serve``."""

    url: str
    process: subprocess.Popen[str]
    log_file: Path

    def logged(self, **fields: object) -> dict[str, Any]:
        """Wait for a line of the log with these fields, which is written after the answer."""
        for _ in range(500):
            for text in self.log_file.read_text("utf-8").splitlines(keepends=True):
                line: dict[str, Any] = json.loads(text) if text.endswith("\n") else {}
                if fields.items() <= line.items():
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no line has {fields}:\n{self.log_file.read_text('utf-8')}")


@contextmanager
def server_process(bundle: Path | str, folder: Path, *options: str) -> Iterator[ServerProcess]:
    """Run ``foveate serve`` at a free port; it is killed at the end, if it still runs."""
    command = [sys.executable, "-m", "foveate", "serve", str(bundle), "--port", "0", *options]
    log_file = folder / "log"
    with (
        log_file.open("w", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert " at http" in line, log_file.read_text("utf-8")
            yield ServerProcess(line.split(" at ")[1].split()[0], process, log_file)
        finally:
            process.kill()


@contextmanager
def server_thread(
    app: Starlette, options: ServeOptions, address: Address | None = None
) -> Iterator[str]:
    """Serve an application in a thread, at a free port unless an address is given; yield its URL."""
    address = address or Address(port=0)
    with address.listen() as bound:
        server = uvicorn.Server(server_config(app, address, options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            yield address.url(bound)
        finally:
            server.should_exit = True
            thread.join()


class Gate:
    """Holds a network of a pipeline, as a slow one does, until it is opened.

    Attributes:
        runs: Number of runs that each network has begun.
    """

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self._open = threading.Event()

    def pipeline(
        self, bundle: Path, stage: str = "propose", options: foveate.PipelineOptions | None = None
    ) -> foveate.Pipeline:
        """Return a pipeline whose network waits at this gate."""
        pipeline = foveate.load(bundle, options=options)
        for name, engine in pipeline.engines.items():
            assert isinstance(engine, OnnxRuntimeEngine)
            held = partial(self._run, name, engine.run, waits=name == stage)
            engine.run = held  # type: ignore[method-assign]  # waits at this gate first
        return pipeline

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def _run(self, name: str, run: Callable[..., None], *tensors: Any, waits: bool) -> None:
        self.runs[name] += 1
        if waits:
            assert self._open.wait(60)
        run(*tensors)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
