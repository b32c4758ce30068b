# SPDX-License-Identifier: Apache-2.0
"""Connections of uvicorn with limits of number and time, and with errors of HTTP as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from foveate.serve.errors import RequestError, busy_error, long_head_error

_LINGER = 1.0  # seconds
_logger = logging.getLogger("foveate.serve")


class LimitedConnection(H11Protocol):
    """A connection whose client must send heads of requests, and take answers, in some time.

    Attributes:
        most: Largest number of connections at a time.
        seconds: The time.
    """

    most: ClassVar[int]
    seconds: ClassVar[float]
    _head_timer: asyncio.TimerHandle | None = None
    _is_extra = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn serves TCP only
        """Wait for the head of the first request, or refuse it if there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse_extra()
        else:
            self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of the head."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take data, which may be a part of a head."""
        if self._is_extra:
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._watch_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not a request with JSON."""
        del msg  # uvicorn's, which is always the same
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._refuse(long_head_error())
            return
        self._refuse(
            RequestError(
                status,
                expected="a request of HTTP/1.1",
                found="something else",
                remedy="check the client, and http or https",
            )
        )

    def on_response_complete(self) -> None:
        """Wait for the next request, or close the connection if it was the last one."""
        super().on_response_complete()
        self._limit_closing()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle."""
        super().timeout_keep_alive_handler()
        self._limit_closing()

    def _unset_keepalive_if_required(self) -> None:
        # The rest of a body that was refused is thrown away, and only for as long as a connection may
        # be idle.
        refused = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if not refused:
            super()._unset_keepalive_if_required()

    def _limit_closing(self) -> None:
        """Drop what a client has not taken of the last answer after some time."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.loop.call_later(self.seconds, self.transport.abort)

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(self.seconds, self._end_wait)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_wait(self) -> None:
        """Close a connection whose client has not sent the head of a request in time."""
        self._head_timer = None
        if self.transport.is_closing():
            return
        if not self.conn.trailing_data[0]:  # it has sent nothing
            self.transport.close()
            return
        self._refuse(
            RequestError(
                408,
                expected=f"the head of a request within {self.seconds:g} s",
                found="a part of it",
                remedy="send it faster, or raise --read-timeout of the server",
            )
        )

    def _refuse_extra(self) -> None:
        """Refuse a connection beyond the limit, whatever its client will send."""
        self._is_extra = True
        self.connections.discard(self)  # so that its end delays no other client
        _logger.warning("connection refused", extra={"fields": {"connections": self.most}})
        self._answer(busy_error(503, f"{self.most} connections", 1))
        # The kernel drops an answer that was not read if the client sends to a closed connection.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.abort)

    def _refuse(self, error: RequestError) -> None:
        """Answer with an error and close the connection."""
        self._answer(error)
        self.transport.close()

    def _answer(self, error: RequestError) -> None:
        """Answer with an error, unless an answer has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error.document("", "")).encode()
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
                *error.headers.items(),
            ]
            head = h11.Response(
                status_code=error.status, headers=headers, reason=HTTPStatus(error.status).phrase
            )
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
