# SPDX-License-Identifier: Apache-2.0
"""The process that serves: its socket, its signals and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from foveate.errors import InputError, OptionError, ServerError
from foveate.serve.connection import LimitedConnection
from foveate.serve.errors import HEADER_BYTES
from foveate.serve.options import ServeOptions
from foveate.typed_options import TypedOptions

LOOPBACK = ("localhost", "127.0.0.1", "::1")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEATED_S = 0.3  # timeout(1) sends each signal twice
_logger = logging.getLogger("foveate.serve")


@dataclass(frozen=True, kw_only=True)
class Address(TypedOptions):
    """Where the server listens.

    Args:
        host: Name or address.
        port: Port; 0 for any that is free.
        certificate: File of the certificate for TLS, with its chain; None for no TLS.
        certificate_key: File of its private key.
        max_connections: Largest number of connections at a time; further ones are answered with 503
            and closed.

    Raises:
        OptionError: A value is out of range, or the certificate has no key or the reverse.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: str | None = None
    certificate_key: str | None = None
    max_connections: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 1 << 16:
            raise OptionError(f"port must lie in 0..65535, found {self.port}")
        self._check_at_least(max_connections=1)
        if (self.certificate is None) != (self.certificate_key is None):
            raise OptionError(
                "a certificate needs its private key, found one of them",
                remedy="pass --certificate and --certificate-key",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def listen(self) -> socket.socket:
        """Return a socket that is bound, so that a port in use is an error before networks load.

        Raises:
            ServerError: The host is unknown, or the port is in use.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, place = found[0]
            bound = socket.socket(family, kind, protocol)
            try:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(place)
            except OSError:
                bound.close()
                raise
        except OSError as error:
            raise ServerError(
                f"the server cannot listen at {self.host}:{self.port} ({error.strerror or error})",
                remedy="pass another --host or --port, or end what uses it",
            ) from error
        return bound

    def url(self, bound: socket.socket) -> str:
        """Return the URL of the server at a socket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{host}:{bound.getsockname()[1]}"


def read_keys(file: Path) -> tuple[str, ...]:
    """Return the keys of a file: one per line; empty lines and those after ``#`` do not count.

    Raises:
        InputError: The file cannot be read, or has no key, or a weak one.
    """
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(
            f"the keys cannot be read ({reason})", file=file, remedy="check the path"
        ) from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys or any(len(key) < 16 or not key.isascii() or " " in key for key in keys):
        raise InputError(
            "expected keys of at least 16 characters without spaces, one per line, found "
            + ("none" if not keys else "a shorter one, or one with other characters"),
            file=file,
            remedy="make one: openssl rand -hex 32",
        )
    return keys


def run_server(
    app: Starlette,
    address: Address,
    bound: socket.socket,
    options: ServeOptions,
    *,
    on_ready: Callable[[], None],
) -> None:
    """Serve an application until a signal ends it.

    The first SIGTERM or SIGINT lets the server finish the requests that it has; meanwhile it is not
    ready, and refuses others. A second one ends the process at once.

    Args:
        app: The application.
        address: Where the server listens.
        bound: The socket of the address.
        options: Options of the server.
        on_ready: Called when it takes requests.

    Raises:
        InputError: The certificate cannot be used.
    """
    _Server(server_config(app, address, options), app, on_ready).run(sockets=[bound])


def server_config(app: Starlette, address: Address, options: ServeOptions) -> uvicorn.Config:
    """Return the configuration of uvicorn, which has loaded the certificate.

    Raises:
        InputError: The certificate cannot be used.
    """
    limits = {"most": address.max_connections, "seconds": options.read_timeout}
    connection = type("Connection", (LimitedConnection,), limits)
    config = uvicorn.Config(
        app,
        http=connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=max(1, round(options.read_timeout)),
        ssl_certfile=address.certificate,
        ssl_keyfile=address.certificate_key,
    )
    try:
        config.load()
    except OSError as error:  # SSLError is one
        raise InputError(
            f"the certificate and its key cannot be used ({error.strerror or error})",
            file=address.certificate,
            remedy="pass PEM files that belong together",
        ) from error
    return config


class _Server(uvicorn.Server):
    """A server that finishes its requests when it is ended."""

    def __init__(
        self, config: uvicorn.Config, app: Starlette, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._state: Any = app.state
        self._on_ready = on_ready
        self._ended: float | None = None
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then call the callback."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs; uvicorn would raise them again afterwards."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._end, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _end(self, number: int) -> None:
        if self._ended is None:
            self._ended = time.monotonic()
            _logger.info("draining")
            self._drain = asyncio.get_running_loop().create_task(self._finish())
        elif time.monotonic() - self._ended > _REPEATED_S:
            os._exit(128 + number)

    async def _finish(self) -> None:
        """Wait until all requests are answered, and let the server end."""
        service = self._state.service
        service.draining = True
        while not service.admission.idle:
            await asyncio.sleep(0.05)
        self.should_exit = True
