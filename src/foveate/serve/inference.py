# SPDX-License-Identifier: Apache-2.0
"""The routes of the Open Inference Protocol (version 2), with its extension for binary tensors.

The tensors are those of the Triton repository that ``foveate triton`` writes, and ``encoded``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from foveate import __version__
from foveate.arrays import Array, UInt8Array
from foveate.images.reading import as_image
from foveate.protocol.client import ModelMetadata, ServerMetadata
from foveate.protocol.tensors import (
    BINARY_EXTENSION,
    DATATYPES,
    HEADER_LENGTH,
    Message,
    MessageError,
    TensorMetadata,
    decode_message,
    encode_message,
)
from foveate.results.detections import Detections, Proposals
from foveate.serve.call import Call
from foveate.serve.errors import RequestError
from foveate.serve.parameters import OF_PROPOSALS, Selection
from foveate.serve.pipelines import RecordedPipeline
from foveate.serve.service import Service

VERSION = "1"
"""Version of the model; a server has only one."""

IMAGE = TensorMetadata(name="image", datatype="UINT8", shape=(-1, -1, 3))
ENCODED = TensorMetadata(name="encoded", datatype="BYTES", shape=(1,))

_OUTPUTS = (
    TensorMetadata(name="boxes", datatype="FP32", shape=(-1, 4)),
    TensorMetadata(name="scores", datatype="FP32", shape=(-1,)),
    TensorMetadata(name="labels", datatype="INT64", shape=(-1,)),
    TensorMetadata(name="masks", datatype="BOOL", shape=(-1, -1, -1)),
    TensorMetadata(name="rle", datatype="BYTES", shape=(-1,)),
)
_ARRAYS: dict[str, Callable[[Any], Array]] = {
    "boxes": lambda found: found.boxes,
    "scores": lambda found: found.scores,
    "labels": lambda found: found.labels,
    "masks": lambda found: np.asarray(found.masks),
    "rle": lambda found: _objects([json.dumps(one).encode() for one in found.masks.rle()]),
}
# Sent by Triton's client if no output is named: whether all are sent as bytes.
_ALL_BINARY = "binary_data_output"
_MOST_MASK_BYTES = 1 << 28


async def describe_server(request: Request) -> Response:
    """Answer with the metadata of the server."""
    del request
    about = ServerMetadata(name="foveate", version=__version__, extensions=(BINARY_EXTENSION,))
    return JSONResponse(asdict(about))


async def check_live(request: Request) -> Response:
    """Answer that the server is alive."""
    del request
    return Response()


async def check_ready(request: Request) -> Response:
    """Answer whether the server, and with it the model, is ready for images."""
    service: Service = request.app.state.service
    _check_model(request, service)
    if service.draining:
        raise RequestError(
            503,
            expected="a server that takes images",
            found="one that is shutting down",
            remedy="send requests to another server",
        )
    return Response()


async def describe_model(request: Request) -> Response:
    """Answer with the metadata of the model."""
    service: Service = request.app.state.service
    _check_model(request, service)
    metadata = ModelMetadata(
        name=service.options.model,
        versions=(VERSION,),
        platform="foveate",
        inputs=(IMAGE, ENCODED),
        outputs=tuple(_outputs_of(service).values()),
    )
    return JSONResponse(asdict(metadata))


async def infer(request: Request) -> Response:
    """Answer with the tensors of the results for an image."""
    service: Service = request.app.state.service
    _check_model(request, service)
    length = request.headers.get(HEADER_LENGTH)

    def work(pipeline: RecordedPipeline, body: bytes, call: Call) -> Message:
        call.check()
        try:
            document, tensors = decode_message(body, length, "inputs")
        except MessageError as error:
            expected = "a message of the Open Inference Protocol"
            raise _wrong(expected, str(error), what=str(error)) from error
        return _infer(service, pipeline, call, document, tensors)

    message = await service.process(request, work)
    return Response(message.body, headers=message.headers)


def _infer(
    service: Service,
    pipeline: RecordedPipeline,
    call: Call,
    document: Mapping[str, Any],
    tensors: Mapping[str, Array],
) -> Message:
    """Return the response to the document and the tensors of a request."""
    parameters = _parameters(document)
    all_binary = parameters.pop(_ALL_BINARY, False) is True
    requested = _requested(document, service, all_binary=all_binary)
    classifies = service.manifest.classifies
    wanted = (
        service.wanted_objects(parameters)
        if classifies
        else Selection.read(parameters, OF_PROPOSALS)
    )
    image = _image(service, call, tensors)
    found: Detections | Proposals
    with pipeline.recorded(call) as recorded:
        found = wanted.of(recorded(image)) if classifies else wanted.of(recorded.propose(image))
    with call.timed("encode"):
        _check_masks(requested, found)
        arrays = {name: _ARRAYS[name](found) for name in requested}
        head = {"model_name": service.options.model, "model_version": VERSION}
        if isinstance(document.get("id"), str):
            head["id"] = document["id"]
        binary = {name for name, is_binary in requested.items() if is_binary}
        return encode_message(head, "outputs", arrays, binary=binary)


def _check_model(request: Request, service: Service) -> None:
    """Check the name and the version of the model in the path, if there are any."""
    model = request.path_params.get("model", service.options.model)
    version = request.path_params.get("version", VERSION)
    if (model, version) != (service.options.model, VERSION):
        raise RequestError(
            404,
            expected=f"the model {service.options.model!r} of version {VERSION}",
            found=f"{model!r:.60} of version {version:.20}",
            remedy="correct the path",
        )


def _outputs_of(service: Service) -> dict[str, TensorMetadata]:
    classifies = service.manifest.classifies
    return {one.name: one for one in _OUTPUTS if classifies or one.name != "labels"}


def _parameters(holder: Mapping[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if not isinstance(parameters, dict | None):
        raise _wrong("parameters that are a JSON object", f"{parameters!r:.60}")
    return dict(parameters or {})  # some clients write absent fields as null


def _requested(
    document: Mapping[str, Any], service: Service, *, all_binary: bool
) -> dict[str, bool]:
    """Return whether each requested output is sent as bytes; masks are sent only if named."""
    available = _outputs_of(service)
    entries = document.get("outputs")
    if entries in (None, []):  # an empty list stands for all outputs in Triton, too
        return {name: all_binary for name in available if name != "masks"}
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise _wrong("outputs that are a list of JSON objects", f"{entries!r:.60}")
    requested: dict[str, bool] = {}
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str) or name not in available:
            raise _wrong(f"outputs of {', '.join(available)}", f"{name!r:.60}")
        parameters = _parameters(entry)
        if others := parameters.keys() - {"binary_data"}:
            raise _wrong("outputs with the parameter binary_data", f"{min(others)!r:.60}")
        requested[name] = parameters.get("binary_data", all_binary) is True
    return requested


def _image(service: Service, call: Call, tensors: Mapping[str, Array]) -> UInt8Array:
    """Return the image of a request, (H, W, 3) uint8 RGB."""
    if len(tensors) != 1 or not tensors.keys() <= {IMAGE.name, ENCODED.name}:
        names = ", ".join(map(repr, tensors)) or "no input"
        raise _wrong("one input, 'image' or 'encoded'", f"{names:.120}")
    (name, array), *_ = tensors.items()
    spec = IMAGE if name == IMAGE.name else ENCODED
    datatype = DATATYPES[array.dtype]
    if datatype != spec.datatype or not spec.fits(array.shape):
        raise _wrong(
            f"{name!r} of {spec.datatype} and shape {list(spec.shape)}",
            f"{datatype} of shape {list(array.shape)}",
        )
    if not array.size:
        raise _wrong("an image with at least one pixel", f"the shape {list(array.shape)}")
    if spec is ENCODED:
        return service.decode(array[0], call)
    with call.timed("decode"):
        image = as_image(array)
    call.pixels = image.shape[0] * image.shape[1]
    service.check_pixels(call.pixels)
    return image


def _check_masks(requested: Mapping[str, bool], found: Detections | Proposals) -> None:
    """Refuse masks that would take too much memory."""
    count, height, width = found.masks.shape
    if "masks" in requested and count * height * width > _MOST_MASK_BYTES:
        raise RequestError(
            413,
            expected=f"masks of at most {_MOST_MASK_BYTES} bytes",
            found=f"{count} masks of {width} x {height} pixels",
            remedy="request the output 'rle', or fewer results",
        )


def _objects(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def _wrong(expected: str, found: str, what: str | None = None) -> RequestError:
    remedy = "correct the request"
    return RequestError(400, expected=expected, found=found, remedy=remedy, what=what)
