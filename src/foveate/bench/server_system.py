# SPDX-License-Identifier: Apache-2.0
"""A server that is measured over a network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from foveate.errors import ServerError
from foveate.protocol.client import BusyError
from foveate.tracing.image_trace import ImageTrace, Work

if TYPE_CHECKING:
    from foveate.bench.requests import Requests
    from foveate.protocol.client import InferenceClient
    from foveate.protocol.tensors import Message
    from foveate.tracing.clock import Clock


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
            with _Times(trace, self._clock) as times:
                answer = self._client.infer(message, on_sent=times.note_sent)
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
    """The same server, which is only asked whether it lives; the client stays open."""

    def __init__(self, client: InferenceClient, clock: Clock) -> None:
        self._client, self._clock = client, clock

    def run(self, index: int) -> ImageTrace:
        """Ask whether the server lives.

        Raises:
            ServerError: It does not answer, or not as it should.
        """
        del index
        trace = ImageTrace()
        with _Times(trace, self._clock) as times:
            self._client.check_live(on_sent=times.note_sent)
        return trace

    def close(self) -> None:
        """Leave the connections open."""


class _Times:
    """Notes when a request is sent, and when the answer is there."""

    def __init__(self, trace: ImageTrace, clock: Clock) -> None:
        self._trace, self._now = trace, clock.now

    def note_sent(self) -> None:
        self._trace.enqueued = self._trace.waited = self._now()

    def __enter__(self) -> _Times:
        self._trace.launched = self._now()
        return self

    def __exit__(self, *error: object) -> None:
        self._trace.done = self._now()
