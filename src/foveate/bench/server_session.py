# SPDX-License-Identifier: Apache-2.0
"""The measurement of a server over a network."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from foveate.bench.building import Surroundings
from foveate.bench.measurement import Measurement
from foveate.bench.record import Server, Subject
from foveate.bench.requests import RequestForm, Requests
from foveate.bench.server_system import IdleSystem, ServerSystem
from foveate.progress import Progress, no_progress
from foveate.protocol.client import InferenceClient
from foveate.protocol.connection import ServerUrl
from foveate.tracing.clock import SystemClock
from foveate.typed_options import TypedOptions, check_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from foveate.bench.options import BenchOptions

_UNMEASURED = {
    **dict.fromkeys(
        ("stages", "operations", "parts.device", "parts.overlap", "parts.copies"),
        "the protocol does not report when a server works on what",
    ),
    **dict.fromkeys(
        ("resources.peak_resident_bytes", "resources.device_bytes", "resources.processor_seconds"),
        "they would be those of the client, not of the server",
    ),
    "resources.joules_per_image": "a counter of the client's machine does not count the server",
    "outcome.load": "the server was started before the measurement",
    **dict.fromkeys(
        ("subject.digest", "subject.device", "subject.backend", "subject.precision"),
        "the protocol does not report them",
    ),
    **dict.fromkeys(
        ("inputs.levels", "inputs.windows"), "they follow from the bundle, which is not here"
    ),
}


@dataclass(frozen=True, kw_only=True)
class ServerTarget(TypedOptions):
    """A model of a server, and how it is measured.

    Args:
        url: Where the server listens, such as ``http://localhost:8000``.
        model: Name of the model.
        input: Name of the input that takes the images: ``"image"`` for pixels, ``"encoded"`` for
            the bytes of files; None prefers the latter.
        timeout: Seconds for which the server may send nothing while it is waited for.
        max_in_flight: Number of requests in flight.

    Raises:
        OptionError: A value has the wrong type or lies outside its range.
    """

    url: str
    model: str = "foveate"
    input: str | None = None
    timeout: float = 30.0
    max_in_flight: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timeout(self.timeout)
        self._check_at_least(max_in_flight=1)


class ServerSession(Measurement):
    """The measurement of a server.

    Raises:
        OptionError: The URL is not one of HTTP.
        ServerError: The server cannot be reached, is not ready, does not speak the protocol, or has
            no such model.
        InputError: An image cannot be read.
    """

    def __init__(
        self,
        target: ServerTarget,
        files: Sequence[Path],
        options: BenchOptions,
        *,
        progress: Progress = no_progress,
    ) -> None:
        clock = SystemClock()
        url = ServerUrl.parse(target.url)
        self._client = InferenceClient(url, target.model, timeout=target.timeout)
        try:
            server, model = self._client.open()
            form = RequestForm.of(server, model, target.input)
            requests = Requests.of(form, files, decoding=options.decoding)
        except BaseException:
            self._client.close()
            raise
        self._server = Server(
            url=str(url),
            metadata=server,
            model=model,
            input=form.input.name,
            outputs=form.outputs,
            binary=form.binary,
            timeout=target.timeout,
        )
        self._doubt = "the state of the server's machine is unknown"
        if _is_here(url.host):
            self._doubt = "the server ran on this machine, and is one of the other processes"
        super().__init__(
            ServerSystem(self._client, requests, clock),
            options,
            inputs=requests.inputs,
            in_flight=target.max_in_flight,
            clock=clock,
            progress=progress,
        )

    def null_system(self) -> IdleSystem:
        """Return the same server, which only gets health checks."""
        return IdleSystem(self._client, self._clock)

    def surroundings(self) -> Surroundings:
        """Return what belongs in the record and does not come from the run."""
        return Surroundings(
            subject=Subject(
                bundle=self._server.model.name,
                digest=None,
                device=None,
                backend=None,
                precision={},
                threads=None,
                options={},
                versions={},
                server=self._server,
            ),
            inputs=self._inputs,
            doubts=(self._doubt,),
            unmeasured=_UNMEASURED,
        )


def _is_here(host: str) -> bool:
    """Return whether a host is this machine by its loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
