# SPDX-License-Identifier: Apache-2.0
"""A server of the Open Inference Protocol in a process of its own, with models that behave and not.

``python inference_server.py`` prints its port. Its models, none of which finds anything:

- ``sleep``: 10 ms, and no objects;
- ``busy``: refuses two of three requests, one with 429 and one with 503;
- ``full``: refuses all requests;
- ``loading``: is not ready;
- ``fixed``: takes images of one size only;
- ``other``: has other inputs;
- ``ending``: fails from its 20th request;
- ``failing``, ``short``, ``foreign``, ``cut``: an error, an output less, no message, half an answer.

``/seen`` counts the requests for inferences by model, and the most that were in flight at a time.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from foveate.protocol.tensors import HEADER_LENGTH, decode_message, encode_message

IMAGE = {"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]}
OUTPUTS = [
    {"name": "boxes", "datatype": "FP32", "shape": [-1, 4]},
    {"name": "scores", "datatype": "FP32", "shape": [-1]},
    {"name": "labels", "datatype": "INT64", "shape": [-1]},
    {"name": "rle", "datatype": "BYTES", "shape": [-1]},
]
INPUTS = {"fixed": [{**IMAGE, "shape": [32, 32, 3]}], "other": [{**IMAGE, "name": "x"}]}
MODELS = [
    "sleep",
    "busy",
    "full",
    "loading",
    "fixed",
    "other",
    "failing",
    "short",
    "foreign",
    "cut",
    "ending",
]


class Server:
    """The state of the server."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.flying = self.most = 0

    def routes(self) -> list[Route]:
        model = "/v2/models/{name}"
        return [
            Route("/v2", describe),
            Route("/v2/health/live", answer_ok),
            Route("/v2/health/ready", answer_ok),
            Route(model, describe_model),
            Route(f"{model}/ready", check_model),
            Route(f"{model}/infer", self.infer, methods=["POST"]),
            Route("/seen", self.count),
        ]

    async def count(self, _: Request) -> Response:
        return JSONResponse({"requests": self.seen, "most_in_flight": self.most})

    async def infer(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.seen[name] += 1
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            return await self.answer(name, request)
        finally:
            self.flying -= 1

    async def answer(self, name: str, request: Request) -> Response:
        status = {"busy": (200, 429, 503)[self.seen["busy"] % 3], "full": 503}.get(name, 200)
        if status != 200:
            headers = {"Retry-After": "0"}
            return JSONResponse({"error": "too many"}, status, headers)
        if name == "failing" or (name == "ending" and self.seen[name] >= 20):
            return JSONResponse({"error": "the device is lost"}, 500)
        if name == "foreign":
            return Response(b"<html>")
        if name == "cut":
            return StreamingResponse(half_an_answer(), headers={"Content-Length": "100"})
        document, _ = decode_message(
            await request.body(), request.headers.get(HEADER_LENGTH), "inputs"
        )
        await asyncio.sleep(0.01)
        outputs = nothing()
        if name == "short":
            del outputs["scores"]
        return reply(name, document, outputs)


def nothing() -> dict[str, np.ndarray]:
    return {
        "boxes": np.zeros((0, 4), np.float32),
        "scores": np.zeros(0, np.float32),
        "labels": np.zeros(0, np.int64),
        "rle": np.zeros(0, np.object_),
    }


def reply(name: str, document: dict[str, Any], outputs: dict[str, np.ndarray]) -> Response:
    asked = document.get("outputs", [{"name": name} for name in outputs])
    requested = {one["name"]: outputs[one["name"]] for one in asked if one["name"] in outputs}
    binary = {one["name"] for one in asked if one.get("parameters", {}).get("binary_data")}
    head = {"model_name": name, "model_version": "1"}
    message = encode_message(head, "outputs", requested, binary=binary)
    return Response(message.body, headers=message.headers)


async def half_an_answer() -> AsyncIterator[bytes]:
    yield b"half"


async def describe(request: Request) -> Response:
    extensions = ["binary_tensor_data"]
    return JSONResponse({"name": "samples", "version": "1.2", "extensions": extensions})


async def answer_ok(request: Request) -> Response:
    return Response()


async def describe_model(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in MODELS:
        return JSONResponse({"error": f"unknown model {name}"}, 404)
    head = {"name": name, "versions": ["1"], "platform": "tests", "parameters": {}}
    return JSONResponse({**head, "inputs": INPUTS.get(name, [IMAGE]), "outputs": OUTPUTS})


async def check_model(request: Request) -> Response:
    return Response(status_code=503 if request.path_params["name"] == "loading" else 200)


class Announcing(uvicorn.Server):
    """A server that prints its port when it listens."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(f"{self.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    server = Server()
    app = Starlette(routes=server.routes())
    Announcing(uvicorn.Config(app, port=0, log_level="critical", access_log=False)).run()
