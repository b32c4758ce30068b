# SPDX-License-Identifier: Apache-2.0
"""The description of the routes in the format OpenAPI 3.1."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from foveate import __version__
from foveate.bench.json_schema import schema_of
from foveate.serve.answers import ErrorAnswer
from foveate.serve.call import REQUEST_ID
from foveate.serve.endpoints import BINARY, IMAGE, Endpoint
from foveate.serve.objects import JSON

_SCHEMAS = "#/components/schemas/"
_PROTOCOL_ERROR = {
    "type": "object",
    "description": "An error of the Open Inference Protocol.",
    "properties": {"error": {"type": "string", "description": "What was wrong, and what to do."}},
    "required": ["error"],
}
_ALWAYS = (401, 403, 500)


def openapi_document(endpoints: Sequence[Endpoint], *, has_key: bool) -> dict[str, Any]:
    """Return the OpenAPI document of some routes.

    Args:
        endpoints: The routes.
        has_key: Whether a request needs a key.
    """
    schemas: dict[str, Any] = {"ProtocolError": _PROTOCOL_ERROR}
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        path = paths.setdefault(endpoint.path, {})
        path[endpoint.method.lower()] = _operation(endpoint, schemas)
    security = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Foveate",
            "version": __version__,
            "description": "Finds, outlines and names the objects in images. Paths below /v2 are "
            "those of the Open Inference Protocol.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": security} if has_key else {})},
        **({"security": [{"key": []}]} if has_key else {}),
    }


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", endpoint.path)
    versioned = "_of_version" if "version" in names else ""
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.handler.__name__}{versioned}"
        if endpoint.path != "/v2/health/ready"
        else "check_server_ready",
        "summary": (inspect.getdoc(endpoint.handler) or "").partition("\n")[0],
        "parameters": [
            *(_in_path(name) for name in names),
            *(
                {"name": one.name, "in": "query", "description": one.text, "schema": one.schema()}
                for one in endpoint.parameters
            ),
            {
                "name": REQUEST_ID,
                "in": "header",
                "description": "Identifier of the request; one is made if it is absent.",
                "schema": {"type": "string"},
            },
        ],
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.takes:
        content = {kind: {"schema": _body(kind)} for kind in endpoint.takes}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "Success"}}
    if endpoint.gives:
        found["200"]["content"] = {
            kind: {
                "schema": _body(kind) if answer is None else schema_of(answer, schemas, _SCHEMAS)
            }
            for kind, answer in endpoint.gives.items()
        }
    error = {"$ref": f"{_SCHEMAS}ProtocolError"}
    if not endpoint.path.startswith("/v2"):
        error = schema_of(ErrorAnswer, schemas, _SCHEMAS)
    for status in sorted({*endpoint.errors, *_ALWAYS}):
        found[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {JSON: {"schema": error}},
        }
    return found


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _body(kind: str) -> dict[str, Any]:
    """Return the schema of a body that is no dataclass."""
    if kind == JSON:
        return {
            "type": "object",
            "description": "A JSON document, such as a message of the Open Inference Protocol.",
        }
    if kind in (BINARY, IMAGE) or kind.startswith("image/"):
        return {"type": "string", "contentMediaType": kind}
    return {"type": "string"}
