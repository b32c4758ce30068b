# SPDX-License-Identifier: Apache-2.0
"""The ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from os import PathLike

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from foveate.errors import OptionError
from foveate.page import page
from foveate.protocol.tensors import HEADER_LENGTH
from foveate.runtime import Pipeline, PipelineOptions
from foveate.serve.call import REQUEST_ID
from foveate.serve.cors import Cors
from foveate.serve.endpoints import ENDPOINTS, Endpoint
from foveate.serve.guard import Guard, refuse_method, refuse_unknown
from foveate.serve.idle import release_when_idle
from foveate.serve.openapi import openapi_document
from foveate.serve.options import ServeOptions
from foveate.serve.pipelines import RecordedPipeline, close_pipelines, open_pipelines
from foveate.serve.service import Service

_IDLE_S = 5.0  # a shorter pause between two images costs the second one nothing


def create_app(
    bundle: str | PathLike[str] | Sequence[Pipeline] = "mini",
    options: ServeOptions | None = None,
    *,
    pipeline_options: PipelineOptions | None = None,
    device: str = "auto",
    backend: str = "auto",
) -> Starlette:
    """Return the server as an ASGI application, which uvicorn, Ray Serve and others can host.

    The pipelines are opened when the host starts the application (``lifespan``), in the process that
    serves, so that hosts may fork before.

    Args:
        bundle: Name of a shipped bundle, a directory, or pipelines of one bundle with the same
            options that were not used so far, which the caller closes.
        options: Options of the server; the defaults if None.
        pipeline_options: Options of each pipeline that is opened, whose ``max_in_flight`` and
            ``score_threshold`` follow from ``options``.
        device: Device of the pipelines that are opened; see ``foveate.load``.
        backend: Backend of the pipelines that are opened; see ``foveate.load``.

    Raises:
        OptionError: No pipeline is given.
    """
    options = options or ServeOptions()
    given = None if isinstance(bundle, (str, PathLike)) else list(bundle)
    if given is not None and not given:
        raise OptionError("expected at least one pipeline, found none")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        opened: list[Pipeline] = []
        if given is None:
            assert isinstance(bundle, (str, PathLike))
            # asyncio.to_thread does not work after the main thread has ended.
            opened = await run_in_threadpool(
                open_pipelines,
                bundle,
                options,
                pipeline_options or PipelineOptions(),
                device=device,
                backend=backend,
            )
        recorded = [RecordedPipeline(pipeline) for pipeline in given or opened]
        service = app.state.service = Service(recorded, options)
        idle = release_when_idle(service.admission, recorded[0].release, seconds=_IDLE_S)
        releasing = asyncio.create_task(idle)
        try:
            yield
        finally:
            releasing.cancel()
            service.close()
            close_pipelines(opened)

    app = Starlette(
        routes=[_route(endpoint) for endpoint in ENDPOINTS],
        middleware=[*_cors(options), Middleware(Guard, options=options)],
        exception_handlers={404: refuse_unknown, 405: refuse_method},
        lifespan=lifespan,
    )
    app.state.page = page(live=True)
    app.state.openapi = openapi_document(ENDPOINTS, has_key=bool(options.keys))
    return app


def _route(endpoint: Endpoint) -> Route:
    async def answer(request: Request) -> Response:
        request.scope["call"].route = endpoint.path
        return await endpoint.handler(request)

    return Route(endpoint.path, answer, methods=[endpoint.method])


def _cors(options: ServeOptions) -> list[Middleware]:
    """Return the middleware that lets pages of other servers read answers, if there are any."""
    if not options.origins:
        return []
    exposed = [REQUEST_ID, "Server-Timing", "Retry-After", HEADER_LENGTH]
    return [
        Middleware(
            Cors,
            allow_origins=options.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", REQUEST_ID, HEADER_LENGTH],
            expose_headers=exposed,
        )
    ]
