# SPDX-License-Identifier: Apache-2.0
"""Errors of requests, and the JSON that answers them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from foveate.errors import FoveateError, InputError, OutOfMemoryError
from foveate.images.decoding import TooManyPixelsError

HEADER_BYTES = 16 << 10
"""Largest head of a request."""

_logger = logging.getLogger("foveate.serve")


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: Status of HTTP.
        expected: What the server expected.
        found: What it found.
        remedy: What the client can do.
        what: What is wrong, in place of "expected ..., found ...".
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        *,
        expected: str,
        found: str,
        remedy: str,
        what: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{what or f'expected {expected}, found {found}'}: {remedy}")
        self.status = status
        self.expected, self.found, self.remedy = expected, found, remedy
        self.headers = dict(headers or {})

    def document(self, path: str, request_id: str) -> dict[str, Any]:
        """Return the JSON document of the answer.

        Args:
            path: Path of the request; those of the Open Inference Protocol have its form.
            request_id: Identifier of the request.
        """
        if path == "/v2" or path.startswith("/v2/"):
            return {"error": str(self)}
        return {
            "error": {
                "message": str(self),
                "expected": self.expected,
                "found": self.found,
                "remedy": self.remedy,
                "request_id": request_id,
            }
        }


class ClientGoneError(Exception):
    """The client closed the connection before it had the answer."""


def long_head_error() -> RequestError:
    """Return the refusal of a request whose head is too long."""
    return RequestError(
        431,
        expected=f"a head of at most {HEADER_BYTES} bytes",
        found="a longer one",
        remedy="send fewer headers",
    )


def busy_error(status: int, found: str, seconds: int) -> RequestError:
    """Return the refusal of a request that may come again after some seconds."""
    return RequestError(
        status,
        expected="a server with room for the request",
        found=found,
        remedy=f"send it again after {seconds} s",
        headers={"Retry-After": str(seconds)},
    )


def request_error(error: Exception) -> RequestError:
    """Return the answer to any error; it shows nothing of the inside of the server.

    What went wrong inside is logged.
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, TooManyPixelsError):
        return RequestError(
            413,
            expected="a smaller image",
            found=error.what,
            remedy=str(error.remedy),
            what=error.what,
        )
    if isinstance(error, InputError):
        return RequestError(
            400,
            expected="an image that can be decoded",
            found=error.what,
            remedy=error.remedy or "send a JPEG or PNG file",
            what=error.what,
        )
    if isinstance(error, OutOfMemoryError):
        _logger.error("out of memory", extra={"fields": {"error": str(error)}})
        return busy_error(503, "not enough memory for this image at the moment", 1)
    fields = {"error": str(error) if isinstance(error, FoveateError) else repr(error)}
    _logger.error("request failed", extra={"fields": fields}, exc_info=error)
    return RequestError(
        500,
        expected="a result",
        found="an internal error, which is in the server's log",
        remedy="look for the request id in the log",
    )
