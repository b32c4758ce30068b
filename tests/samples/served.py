# SPDX-License-Identifier: Apache-2.0
"""Servers to measure: the one of ``inference_server``, and sockets that misbehave."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

SCRIPT = Path(__file__).with_name("inference_server.py")


@contextmanager
def inference_server() -> Iterator[str]:
    """Run the server in a process of its own; yield its URL."""
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def seen(url: str) -> dict[str, Any]:
    """What the server counted."""
    with urlopen(f"{url}/seen") as answer:  # noqa: S310 - our own server
        found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def socket_that_answers(*answers: bytes | None) -> Iterator[str]:
    """Answer the first bytes of each connection and close it; never answer where None stands."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, answers))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends `accept`, which closing would not
            thread.join()


def _answer(listener: socket.socket, answers: tuple[bytes | None, ...]) -> None:
    with suppress(OSError), ExitStack() as kept:  # the listener was shut down
        for answer in answers:
            connection = kept.enter_context(listener.accept()[0])
            connection.recv(1 << 16)
            if answer is None:
                listener.accept()  # the connection stays open until the listener is shut down
            else:
                connection.sendall(answer)
                connection.close()
