# SPDX-License-Identifier: Apache-2.0
"""The routes of the server: the one description from which it and its OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from foveate.protocol.client import ModelMetadata, ServerMetadata
from foveate.serve.answers import BundleAnswer, ObjectsAnswer, ProposalsAnswer
from foveate.serve.inference import check_live, check_ready, describe_model, describe_server, infer
from foveate.serve.objects import (
    JSON,
    PNG,
    describe_bundle,
    describe_routes,
    find_for_page,
    find_objects,
    find_proposals,
    show_metrics,
    show_page,
)
from foveate.serve.parameters import OF_OBJECTS, OF_PROPOSALS, Parameter

Handler = Callable[[Request], Awaitable[Response]]

IMAGE, BINARY, TEXT = "image/*", "application/octet-stream", "text/plain"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A route.

    Args:
        path: Its path, with the names of its parameters in braces.
        handler: What answers a request; its docstring is the description of the route.
        method: Its method of HTTP.
        parameters: Parameters of the query.
        takes: Media types of the body; empty if it has none.
        gives: What the answer contains by media type: a dataclass as JSON, or None for anything.
        errors: Statuses of errors, without those that every route has.
    """

    path: str
    handler: Handler
    method: str = "GET"
    parameters: tuple[Parameter, ...] = ()
    takes: tuple[str, ...] = ()
    gives: Mapping[str, type[Any] | None] = field(default_factory=dict)
    errors: tuple[int, ...] = ()


_OF_IMAGES = (400, 408, 413, 415, 429, 503, 504)
_MODEL = "/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"


def _model_endpoints(path: str) -> tuple[Endpoint, ...]:
    return (
        Endpoint(path=path, handler=describe_model, gives={JSON: ModelMetadata}, errors=(404,)),
        Endpoint(path=f"{path}/ready", handler=check_ready, errors=(404, 503)),
        Endpoint(
            path=f"{path}/infer",
            handler=infer,
            method="POST",
            takes=(JSON, BINARY),
            gives={JSON: None, BINARY: None},
            errors=(*_OF_IMAGES, 404),
        ),
    )


ENDPOINTS = (
    Endpoint(
        path="/v1/objects",
        handler=find_objects,
        method="POST",
        parameters=OF_OBJECTS,
        takes=(IMAGE,),
        gives={JSON: ObjectsAnswer, PNG: None},
        errors=(*_OF_IMAGES, 404, 406),
    ),
    Endpoint(
        path="/v1/proposals",
        handler=find_proposals,
        method="POST",
        parameters=OF_PROPOSALS,
        takes=(IMAGE,),
        gives={JSON: ProposalsAnswer, PNG: None},
        errors=(*_OF_IMAGES, 406),
    ),
    Endpoint(
        path="/v1/page",
        handler=find_for_page,
        method="POST",
        takes=(IMAGE,),
        gives={JSON: None},
        errors=(*_OF_IMAGES, 404),
    ),
    Endpoint(path="/", handler=show_page, gives={"text/html": None}),
    Endpoint(path="/v1/bundle", handler=describe_bundle, gives={JSON: BundleAnswer}),
    Endpoint(path="/metrics", handler=show_metrics, gives={TEXT: None}),
    Endpoint(path="/openapi.json", handler=describe_routes, gives={JSON: None}),
    Endpoint(path="/v2", handler=describe_server, gives={JSON: ServerMetadata}),
    Endpoint(path="/v2/health/live", handler=check_live),
    Endpoint(path="/v2/health/ready", handler=check_ready, errors=(503,)),
    *_model_endpoints(_MODEL),
    *_model_endpoints(_VERSION),
)
