# SPDX-License-Identifier: Apache-2.0
"""The plain routes: the bytes of an image in, JSON or a picture out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import cv2
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from foveate import __version__
from foveate.arrays import UInt8Array
from foveate.errors import InputError
from foveate.images.decoding import TooManyPixelsError
from foveate.page import page_record
from foveate.plain_text import json_text
from foveate.results.detections import Detections, Proposals
from foveate.runtime import Pipeline
from foveate.serve.answers import BundleAnswer, ObjectsAnswer, ProposalsAnswer
from foveate.serve.call import Call
from foveate.serve.errors import RequestError
from foveate.serve.parameters import OF_PROPOSALS, Selection
from foveate.serve.pipelines import RecordedPipeline
from foveate.serve.service import Service
from foveate.tracing.image_trace import stage_times

JSON, PNG = "application/json", "image/png"
Found = TypeVar("Found", Detections, Proposals)


async def find_objects(request: Request) -> Response:
    """Answer with the objects in the image of the body, as JSON or as an overlay."""
    service: Service = request.app.state.service
    _require_classifier(service)
    wanted = service.wanted_objects(_query(request))
    return await _answer(
        request, lambda pipeline, image: wanted.of(pipeline(image)), ObjectsAnswer.of
    )


async def find_proposals(request: Request) -> Response:
    """Answer with the proposals in the image of the body, as JSON or as an overlay."""
    wanted = Selection.read(_query(request), OF_PROPOSALS)
    return await _answer(
        request, lambda pipeline, image: wanted.of(pipeline.propose(image)), ProposalsAnswer.of
    )


async def _answer(
    request: Request,
    find: Callable[[Pipeline, UInt8Array], Found],
    describe: Callable[[Found], ObjectsAnswer | ProposalsAnswer],
) -> Response:
    """Answer with what is found in the image of the body, as JSON or as an overlay."""
    service: Service = request.app.state.service
    kind = _accepted(request)

    def work(pipeline: RecordedPipeline, body: bytes, call: Call) -> bytes:
        image = _decode(request, body, call)
        with pipeline.recorded(call) as recorded:
            found = find(recorded, image)
        with call.timed("encode"):
            return _png(found.draw(image)) if kind == PNG else _json(describe(found))

    return Response(await service.process(request, work), media_type=kind)


async def find_for_page(request: Request) -> Response:
    """Answer with what the page shows of the image in the body."""
    service: Service = request.app.state.service
    _require_classifier(service)

    def work(pipeline: RecordedPipeline, body: bytes, call: Call) -> bytes:
        image = _decode(request, body, call)
        with pipeline.recorded(call) as recorded:
            found = recorded.find(image)
        with call.timed("encode"):
            record = page_record(
                "",
                found,
                service.manifest,
                stages=None if call.trace is None else stage_times(call.trace),
                score_threshold=service.score_threshold,
            )
            return json_text(record, compact=True).encode()

    return Response(await service.process(request, work), media_type=JSON)


async def show_page(request: Request) -> Response:
    """Answer with a page that finds the objects in the images of its visitor."""
    return HTMLResponse(request.app.state.page, headers={"X-Frame-Options": "DENY"})


async def describe_bundle(request: Request) -> Response:
    """Answer with the bundle and the options that concern its results."""
    service: Service = request.app.state.service
    answer = BundleAnswer.of(
        service.manifest,
        tiles=service.tiles,
        score_threshold=service.score_threshold,
        version=__version__,
    )
    return JSONResponse(asdict(answer))


async def show_metrics(request: Request) -> Response:
    """Answer with the metrics of the server."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


async def describe_routes(request: Request) -> Response:
    """Answer with the routes in the format OpenAPI 3.1."""
    return JSONResponse(request.app.state.openapi)


def _decode(request: Request, body: bytes, call: Call) -> UInt8Array:
    """Decode the image in the body of a request, (H, W, 3) uint8 RGB."""
    service: Service = request.app.state.service
    try:
        return service.decode(body, call)
    except TooManyPixelsError:
        raise
    except InputError as error:
        kind = request.headers.get("content-type", "image/")
        if kind.startswith(("image/", "application/octet-stream")):
            raise
        # A form or JSON around the image, or a file from which `curl -d` took the line breaks.
        remedy = f"send the file as it is: curl --data-binary @photo.jpg; if you already do, {error.remedy}"
        raise InputError(error.what, remedy=remedy) from error


def _require_classifier(service: Service) -> None:
    if not service.manifest.classifies:
        raise RequestError(
            404,
            expected="a bundle with a classifier",
            found=f"{service.manifest.name!r}, which only proposes",
            remedy="send the image to /v1/proposals",
        )


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
    """Return the weight of a media type in ``Accept``, by the most specific entry that matches it."""
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


def _query(request: Request) -> dict[str, object]:
    """Return the parameters of a query, of which none may be given twice."""
    items = request.query_params.multi_items()
    given: dict[str, object] = dict(items)
    if len(given) < len(items):
        raise RequestError(
            400, expected="each parameter once", found="one twice", remedy="omit one of them"
        )
    return given


def _json(answer: ObjectsAnswer | ProposalsAnswer) -> bytes:
    return json_text(asdict(answer), compact=True).encode()


def _png(image: UInt8Array) -> bytes:
    done, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, "OpenCV encodes every uint8 image as PNG"
    return content.tobytes()
