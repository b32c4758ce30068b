# SPDX-License-Identifier: Apache-2.0
"""The plain routes: the bytes of an image in, JSON or a picture out."""

from __future__ import annotations

from dataclasses import asdict

import cv2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from foveate import __version__
from foveate.arrays import UInt8Array
from foveate.plain_text import json_text
from foveate.runtime import Pipeline
from foveate.serve.answers import BundleAnswer, ObjectsAnswer, ProposalsAnswer
from foveate.serve.call import Call
from foveate.serve.errors import RequestError
from foveate.serve.parameters import OF_OBJECTS, OF_PROPOSALS, Selection
from foveate.serve.pipelines import detect, propose
from foveate.serve.service import Service

JSON, PNG = "application/json", "image/png"


async def find_objects(request: Request) -> Response:
    """Answer with the objects in the image of the body, as JSON or as an overlay."""
    service: Service = request.app.state.service
    if not service.manifest.classifies:
        raise RequestError(
            404,
            expected="a bundle with a classifier",
            found=f"{service.manifest.name!r}, which only proposes",
            remedy="send the image to /v1/proposals",
        )
    kind = _accepted(request)
    floor = service.pipeline_options.score_threshold
    wanted = Selection.read(request.query_params, OF_OBJECTS, floor=floor)
    _check_once(request)

    def work(pipeline: Pipeline, body: bytes, call: Call) -> bytes:
        image = service.decode(body, call)
        found = wanted.of(detect(pipeline, image, call))
        with call.timed("encode"):
            return _png(found.draw(image)) if kind == PNG else _json(ObjectsAnswer.of(found))

    return Response(await service.process(request, work), media_type=kind)


async def find_proposals(request: Request) -> Response:
    """Answer with the proposals in the image of the body, as JSON or as an overlay."""
    service: Service = request.app.state.service
    kind = _accepted(request)
    wanted = Selection.read(request.query_params, OF_PROPOSALS, floor=0.0)
    _check_once(request)

    def work(pipeline: Pipeline, body: bytes, call: Call) -> bytes:
        image = service.decode(body, call)
        found = wanted.of(propose(pipeline, image, call))
        with call.timed("encode"):
            return _png(found.draw(image)) if kind == PNG else _json(ProposalsAnswer.of(found))

    return Response(await service.process(request, work), media_type=kind)


async def describe_bundle(request: Request) -> Response:
    """Answer with the bundle and the options that concern its results."""
    service: Service = request.app.state.service
    threshold = service.pipeline_options.score_threshold
    answer = BundleAnswer.of(service.manifest, score_threshold=threshold, version=__version__)
    return JSONResponse(asdict(answer))


async def show_metrics(request: Request) -> Response:
    """Answer with the metrics of the server."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


async def describe_routes(request: Request) -> Response:
    """Answer with the routes in the format OpenAPI 3.1."""
    return JSONResponse(request.app.state.openapi)


def _accepted(request: Request) -> str:
    """Return the media type that the client prefers: JSON, or an overlay as PNG.

    Raises:
        RequestError: It accepts neither.
    """
    accept = request.headers.get("accept", "*/*")
    weights = {kind: _weight(accept, kind) for kind in (JSON, PNG)}
    best = max(weights, key=lambda kind: weights[kind])  # the first one of equals
    if weights[best] == 0:
        raise RequestError(
            406,
            expected=f"Accept: {JSON}, or {PNG} for an overlay",
            found=f"Accept: {accept:.60}",
            remedy="omit the header, or name one of them",
        )
    return best


def _weight(accept: str, kind: str) -> float:
    """Return how much a client wants a media type, by its most specific entry for it."""
    ranges = ("*/*", f"{kind.partition('/')[0]}/*", kind)
    found = (-1, 0.0)
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        if name in ranges:
            try:
                found = max(found, (ranges.index(name), float(quality)))
            except ValueError:
                continue
    return found[1]


def _check_once(request: Request) -> None:
    """Refuse parameters that are given twice, of which only one could count."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        raise RequestError(
            400, expected="each parameter once", found="one twice", remedy="omit one of them"
        )


def _json(answer: ObjectsAnswer | ProposalsAnswer) -> bytes:
    return json_text(asdict(answer), compact=True).encode()


def _png(image: UInt8Array) -> bytes:
    done, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, "OpenCV encodes every uint8 image as PNG"
    return content.tobytes()
