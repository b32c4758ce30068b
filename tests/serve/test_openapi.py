# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document describes the routes that there are, and what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route
from tests.samples.serving import document, encoded, send, server_thread, square

from foveate.serve import ServeOptions, create_app

FILE = encoded(square())
OPTIONS = ServeOptions()


@pytest.fixture(scope="module")
def server(contrast_bundle: Path) -> Iterator[str]:
    with server_thread(create_app(contrast_bundle, OPTIONS), OPTIONS) as url:
        yield url


@pytest.fixture
def described(server: str) -> dict[str, Any]:
    found: dict[str, Any] = document(send(server, "/openapi.json"))
    return found


def test_the_document_is_one_of_openapi(described: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(described).validate()


def test_every_route_is_described_once(described: dict[str, Any]) -> None:
    routes = [route for route in create_app().routes if isinstance(route, Route)]
    assert sorted(route.path for route in routes) == sorted(described["paths"])
    names = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(routes)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/v1/objects"),
        ("post", "/v1/proposals"),
        ("get", "/v1/bundle"),
        ("get", "/v2"),
        ("get", "/v2/models/{model}"),
    ],
)
def test_answers_have_the_described_form(
    server: str, described: dict[str, Any], method: str, path: str
) -> None:
    answer = send(server, path.format(model="foveate"), FILE if method == "post" else b"")
    assert answer.status == 200
    validate(described, method, path, "200", document(answer))


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/objects", "400"), ("/v1/proposals", "400"), ("/v2/models/{model}/infer", "400")],
)
def test_errors_have_the_described_form(
    server: str, described: dict[str, Any], path: str, status: str
) -> None:
    answer = send(server, path.format(model="foveate"), b"nonsense")
    assert answer.status == int(status)
    validate(described, "post", path, status, document(answer))


def validate(
    described: dict[str, Any], method: str, path: str, status: str, answer: object
) -> None:
    content = described["paths"][path][method]["responses"][status]["content"]
    schema = {**content["application/json"]["schema"], "components": described["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


def test_a_key_is_described_if_one_is_needed() -> None:
    app = create_app("mini", ServeOptions(keys=("0123456789abcdef",)))
    assert app.state.openapi["security"] == [{"key": []}]
    assert "security" not in create_app().state.openapi
