# SPDX-License-Identifier: Apache-2.0
"""Reading the body of a request, within limits."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from foveate.serve.call import Call
from foveate.serve.errors import ClientGoneError, RequestError
from foveate.serve.options import ServeOptions


async def read_body(request: Request, call: Call, options: ServeOptions) -> bytes:
    """Return the body of a request.

    Raises:
        RequestError: It is empty, encoded, too long, or does not arrive in time.
        ClientGoneError: The client left.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RequestError(
            415,
            expected="a body without Content-Encoding",
            found=f"Content-Encoding: {encoding:.40}",
            remedy="send the bytes as they are; images are compressed already",
        )
    length = request.headers.get("content-length")
    if length is not None and int(length) > options.max_bytes:  # the HTTP parser wants digits only
        raise _too_long(f"{length} bytes", options)
    try:
        async with asyncio.timeout(options.read_timeout):
            body = await _collect(request, options)
    except TimeoutError as error:
        raise RequestError(
            408,
            expected=f"the whole body within {options.read_timeout:g} s",
            found="a part of it",
            remedy="send it faster, or raise --read-timeout of the server",
            headers={"Connection": "close"},
        ) from error
    call.bytes = len(body)
    if not body:
        raise RequestError(
            400,
            expected="an image in the body",
            found="an empty body",
            remedy="send the bytes of a file: curl --data-binary @photo.jpg",
        )
    return body


async def _collect(request: Request, options: ServeOptions) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > options.max_bytes:
            raise _too_long("more", options)
        more = message.get("more_body", False)
    return b"".join(parts)


async def wait_until_gone(request: Request) -> None:
    """Return when the client of a request, whose body was read, has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_long(found: str, options: ServeOptions) -> RequestError:
    return RequestError(
        413,
        expected=f"a body of at most {options.max_bytes} bytes",
        found=found,
        remedy="send a smaller image, or raise --max-bytes of the server",
    )
