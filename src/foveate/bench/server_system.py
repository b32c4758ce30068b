# SPDX-License-Identifier: Apache-2.0
"""A server that is measured over a network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from foveate.errors import ServerError
from foveate.protocol.client import BusyError
from foveate.tracing.image_trace import ImageTrace, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from foveate.bench.requests import Requests
    from foveate.protocol.client import InferenceClient
    from foveate.protocol.tensors import Message
    from foveate.tracing.clock import Clock

T = TypeVar("T")


class ServerSystem:
    """A model of a server, and the images that it is sent; it owns the client."""

    def __init__(self, client: InferenceClient, requests: Requests, clock: Clock) -> None:
        self._client, self._requests, self._clock = client, requests, clock

    def run(self, index: int) -> ImageTrace:
        """Send an image, and return when the objects in it are there.

        Raises:
            BusyError: The server refused the image because it has too many.
            ServerError: It does not answer, or not as it should.
        """
        trace = ImageTrace()
        message = self._message(index, trace)
        trace.sent_bytes = len(message.body)
        try:
            answer = _timed(partial(self._client.infer, message), trace, self._clock)
            trace.fetched[0] = len(answer.body)
            self._requests.form.check(self._client.outputs(answer))
        except BusyError:
            raise
        except ServerError as error:
            name = self._requests.files[index].name
            raise ServerError(error.what, file=name, remedy=error.remedy) from error
        return trace

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _message(self, index: int, trace: ImageTrace) -> Message:
        """Return the request for an image, made of its file unless it is in memory."""
        if self._requests.messages:
            return self._requests.messages[index]
        make = partial(self._requests.form.for_file, self._requests.files[index])
        return Work("read", "file", "host").run(self._clock.now, trace, make)


class IdleSystem:
    """The same server, which only gets health checks; the client stays open."""

    def __init__(self, client: InferenceClient, clock: Clock) -> None:
        self._client, self._clock = client, clock

    def run(self, index: int) -> ImageTrace:
        """Send a health check.

        Raises:
            ServerError: It does not answer, or not as it should.
        """
        del index
        trace = ImageTrace()
        _timed(self._client.check_live, trace, self._clock)
        return trace

    def close(self) -> None:
        """Leave the connections open."""


def _timed(send: Callable[..., T], trace: ImageTrace, clock: Clock) -> T:
    """Send a request; note the moments before it, when it is sent, and when the answer is there."""

    def note_sent() -> None:
        trace.enqueued = trace.waited = clock.now()

    trace.launched = clock.now()
    answer = send(on_sent=note_sent)
    trace.done = clock.now()
    return answer
