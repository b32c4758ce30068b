# SPDX-License-Identifier: Apache-2.0
"""What happens around every request: who may send it, its identifier, its log line, its errors."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foveate.errors import BackendError
from foveate.serve.call import REQUEST_ID, Call, request_id
from foveate.serve.errors import (
    HEADER_BYTES,
    ClientGoneError,
    RequestError,
    long_head_error,
    request_error,
)
from foveate.serve.logs import log_request
from foveate.serve.metrics import CLIENT_GONE
from foveate.serve.options import ServeOptions
from foveate.serve.service import Service

_OPEN = ("/", "/v2/health/live", "/v2/health/ready")
"""Routes that need no key: a browser cannot send one for a page, nor can what restarts servers."""


class Guard:
    """ASGI middleware around all routes.

    Args:
        app: The routes.
        options: Options of the server.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not hasattr(scope["app"].state, "service"):
            raise BackendError(
                "expected an application that was started, found one whose lifespan did not run",
                remedy="run it: async with app.router.lifespan_context(app), in the lifespan of the "
                "application that mounts this one",
            )
        headers = Headers(scope=scope)
        call = scope["call"] = Call(id=request_id(headers.get(REQUEST_ID)))
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _describe(MutableHeaders(scope=message), call)
            await send(message)

        try:
            if _head_bytes(scope) > HEADER_BYTES:  # hosts take a longer one that arrives at once
                raise long_head_error()
            self._check(_path(scope), headers)
            await self._app(scope, receive, send_with_id)
        except (ClientGoneError, asyncio.CancelledError) as error:
            status = CLIENT_GONE
            if isinstance(error, asyncio.CancelledError):
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this request only
            shown = request_error(error)
            if status is None:
                document = shown.document(_path(scope), call.id)
                answer = JSONResponse(document, shown.status, shown.headers)
                await answer(scope, receive, send_with_id)
        finally:
            _record(scope, call, status)

    def _check(self, path: str, headers: Headers) -> None:
        """Check who sends a request.

        Raises:
            RequestError: It is not allowed.
        """
        options = self._options
        origin, host = headers.get("origin"), headers.get("host", "")
        if options.hosts and _name_of(host) not in options.hosts:
            raise RequestError(
                403,
                expected=f"a request to {' or '.join(options.hosts)}",
                found=f"Host: {host:.100}",
                remedy="allow it by --key-file or --no-key of the server",
            )
        same = origin is not None and _place_of(origin) == host
        if origin is not None and not same and origin not in options.origins:
            raise RequestError(
                403,
                expected="a page of this server",
                found=f"Origin: {origin:.100}",
                remedy="allow it by --allow-origin of the server",
            )
        if options.keys and path not in _OPEN and not _has_key(headers, options.keys):
            raise RequestError(
                401,
                expected="a key that the server knows, as Authorization: Bearer KEY",
                found="no key" if "authorization" not in headers else "another one",
                remedy="ask who runs the server for one",
                headers={"WWW-Authenticate": "Bearer"},
            )


async def refuse_unknown(request: Request, error: Exception) -> NoReturn:
    """Refuse a request to a path that does not exist."""
    raise RequestError(
        404,
        expected="a route that the server has",
        found=f"{request.url.path!r:.100}",
        remedy="look at /openapi.json",
    ) from error


async def refuse_method(request: Request, error: Exception) -> NoReturn:
    """Refuse a request with a method that its route does not have."""
    headers: Mapping[str, str] = getattr(error, "headers", None) or {}
    raise RequestError(
        405,
        expected=f"the method {headers.get('Allow', 'of the route')}",
        found=request.method[:20],
        remedy="look at /openapi.json",
        headers=headers,
    ) from error


def _describe(headers: MutableHeaders, call: Call) -> None:
    """Add the identifier of a request and its times, in milliseconds, to its answer."""
    headers[REQUEST_ID] = call.id
    headers["X-Content-Type-Options"] = "nosniff"
    if call.waiting is not None:
        times = {"waiting": call.waiting, **call.times}
        headers["Server-Timing"] = ", ".join(f"{k};dur={v * 1e3:.1f}" for k, v in times.items())


def _record(scope: Scope, call: Call, status: int | None) -> None:
    """Count a request, and log it."""
    method, status = scope["method"], status or 500
    infers = method == "POST" and call.route is not None
    service: Service = scope["app"].state.service
    call.took = call.seconds
    service.metrics.record(call, status, infers=infers)
    if infers:
        service.trace.add(call)
    log_request(call, method, status, infers=infers)


def _path(scope: Scope) -> str:
    """Return the path of a request without that under which the host mounts the application."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _head_bytes(scope: Scope) -> int:
    target = len(scope.get("raw_path", b"")) + len(scope["query_string"])
    return target + sum(len(name) + len(value) for name, value in scope["headers"])


def _has_key(headers: Headers, keys: tuple[str, ...]) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    content = given.strip().encode("utf-8", "surrogateescape")
    # All keys are compared, so that the time reveals nothing about them.
    found = [hmac.compare_digest(content, key.encode()) for key in keys]
    return scheme.lower() == "bearer" and any(found)


def _place_of(origin: str) -> str | None:
    """Return the host and the port of an origin; None if it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """Return the name of a host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
