# SPDX-License-Identifier: Apache-2.0
"""A client of the Open Inference Protocol (version 2) over HTTP."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TypeVar
from urllib.parse import quote

from foveate.arrays import Array
from foveate.bundle.schema import RejectedValueError, load_json, parse
from foveate.errors import ServerError
from foveate.protocol.connection import Answer, Connection, ServerUrl
from foveate.protocol.tensors import (
    HEADER_LENGTH,
    Message,
    MessageError,
    TensorMetadata,
    decode_message,
)

T = TypeVar("T")

BUSY = (429, 503)
"""Statuses by which a server refuses a request because it has too many."""


class BusyError(ServerError):
    """A server refused a request because it has too many.

    Args:
        status: Status of HTTP.
        retry_after: Seconds after which the server asks to try again; None if it gives none.
    """

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(
            f"the server refused a request with the status {status}",
            remedy="send fewer requests at a time",
        )
        self.status, self.retry_after = status, retry_after

    def __reduce__(self) -> tuple[type[BusyError], tuple[int, float | None]]:
        return type(self), (self.status, self.retry_after)


@dataclass(frozen=True, kw_only=True)
class ServerMetadata:
    """Metadata of a server.

    Args:
        name: Name of the server.
        version: Its version.
        extensions: Extensions of the protocol that it supports.
    """

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Metadata of a model.

    Args:
        name: Name of the model.
        versions: Its versions.
        platform: Framework and format of the model.
        inputs: Its inputs.
        outputs: Its outputs.
    """

    name: str
    versions: tuple[str, ...] = ()
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class InferenceClient:
    """A client of one model of a server. Several threads may use it, each with its own connection.

    Args:
        url: Where the server listens.
        model: Name of the model.
        timeout: Seconds for which the server may send nothing while it is waited for.
    """

    def __init__(self, url: ServerUrl, model: str, *, timeout: float) -> None:
        self.url = url
        self._model, self._timeout = model, timeout
        self._path = f"/v2/models/{quote(model, safe='')}"
        # The connection that was used last comes first, since the server may close idle ones.
        self._idle: deque[Connection] = deque()

    def open(self) -> tuple[ServerMetadata, ModelMetadata]:
        """Return the metadata of the server and of the model when both are ready.

        Raises:
            ServerError: The server does not speak the protocol, it or the model is not ready, or
                there is no such model.
        """
        server = self._metadata(ServerMetadata, "/v2")
        self._require_ready("/v2/health/ready", "the server")
        answer = self._get(self._path)
        if 400 <= answer.status < 500:
            raise ServerError(
                f"the server {server.name!r:.60} has no model {self._model!r:.60} "
                f"({_reason(answer)})",
                remedy="pass the name of one that it has: --model NAME",
            )
        self._require_ready(f"{self._path}/ready", f"the model {self._model!r:.60}")
        return server, self._metadata(ModelMetadata, self._path)

    def check_live(self, *, on_sent: Callable[[], None] | None = None) -> None:
        """Check that the server is alive, by the cheapest request that the protocol has.

        Raises:
            ServerError: It does not answer, or reports that it is not alive.
        """
        answer = self._get("/v2/health/live", on_sent=on_sent)
        if answer.status != 200:
            raise self._unexpected(answer, "/v2/health/live")

    def infer(self, request: Message, *, on_sent: Callable[[], None] | None = None) -> Answer:
        """Send a request for an inference, and return the answer as it came.

        Args:
            request: The request.
            on_sent: Called when the whole request was handed to the system.

        Raises:
            BusyError: The server has too many requests.
            ServerError: It does not answer, or answers with an error.
        """
        path = f"{self._path}/infer"
        with self._connection() as connection:
            answer = connection.request(
                "POST", path, request.body, request.headers, on_sent=on_sent
            )
        if answer.status in BUSY:
            raise BusyError(answer.status, _retry_after(answer))
        if answer.status != 200:
            raise self._unexpected(answer, path)
        return answer

    def outputs(self, answer: Answer) -> dict[str, Array]:
        """Return the outputs of an inference by name.

        Raises:
            ServerError: The answer is not of the protocol.
        """
        try:
            length = answer.headers.get(HEADER_LENGTH.lower())
            return decode_message(answer.body, length, "outputs")[1]
        except MessageError as error:
            raise ServerError(
                f"{self.url} answered with a message that is not of the protocol ({error})",
                remedy="check which server listens there",
            ) from error

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection that no other thread uses meanwhile."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self.url, self._timeout)
        try:
            yield connection
        finally:
            self._idle.append(connection)

    def _get(self, path: str, *, on_sent: Callable[[], None] | None = None) -> Answer:
        with self._connection() as connection:
            return connection.request("GET", path, on_sent=on_sent)

    def _require_ready(self, path: str, who: str) -> None:
        answer = self._get(path)
        if answer.status != 200:
            raise self._not_ready(who, path, answer)

    def _not_ready(self, who: str, path: str, answer: Answer) -> ServerError:
        return ServerError(
            f"{who} at {self.url} is not ready ({_reason(answer)})",
            remedy=f"wait until {path} answers with the status 200",
        )

    def _metadata(self, kind: type[T], path: str) -> T:
        """Return the metadata at a path, without fields that the protocol does not define."""
        answer = self._get(path)
        if answer.status in BUSY:
            raise self._not_ready("the server", path, answer)
        try:
            if answer.status != 200:
                raise RejectedValueError(_reason(answer))
            return parse(kind, _known(kind, load_json(answer.body)))
        except ValueError as error:
            raise ServerError(
                f"what listens at {self.url} does not speak the Open Inference Protocol: GET {path} "
                f"gave no metadata ({error})",
                remedy="check host, port and path",
            ) from error

    def _unexpected(self, answer: Answer, path: str) -> ServerError:
        return ServerError(
            f"{self.url}{path} answered with an error ({_reason(answer)})",
            remedy="look into the server's log",
        )


def _known(kind: type, value: object) -> object:
    """Return decoded JSON without the keys that a dataclass has no field for."""
    if not isinstance(value, dict):
        return value
    names = {one.name for one in fields(kind)}
    found = {name: one for name, one in value.items() if name in names}
    for name in {"inputs", "outputs"} & names & found.keys():
        if isinstance(found[name], list):
            found[name] = [_known(TensorMetadata, one) for one in found[name]]
    return found


def _reason(answer: Answer) -> str:
    """Return the status of an answer, with the text of the protocol's error if there is one."""
    try:
        text = load_json(answer.body)["error"]
    except (ValueError, TypeError, KeyError):
        text = None
    return f"status {answer.status}" + (f": {text:.200}" if isinstance(text, str) else "")


def _retry_after(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
