# SPDX-License-Identifier: Apache-2.0
"""What all requests share: pipelines, options, admission and metrics."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request

from foveate.arrays import UInt8Array
from foveate.bundle import Manifest
from foveate.images.decoding import decode
from foveate.serve.admission import Admission
from foveate.serve.body import read_body, wait_until_gone
from foveate.serve.call import Call
from foveate.serve.errors import ClientGoneError, RequestError, busy_error
from foveate.serve.metrics import Metrics
from foveate.serve.options import ServeOptions
from foveate.serve.parameters import OF_OBJECTS, Selection
from foveate.serve.pipelines import RecordedPipeline
from foveate.serve.trace import Trace

T = TypeVar("T")
Work = Callable[[RecordedPipeline, bytes, Call], T]


class Service:
    """What all requests share.

    Args:
        pipelines: The pipelines, of which all have the same bundle and options.
        options: Options of the server.

    Attributes:
        manifest: Manifest of the bundle, with the options of the pipelines applied.
        tiles: How the pipelines cut large images; see ``PipelineOptions``.
        score_floor: Smallest score of an object that the pipelines return.
        score_threshold: Smallest score of an object, unless a request has its own.
        trace: The latest requests.
        draining: Whether the server is shutting down: it is not ready, and takes no more images.
    """

    def __init__(self, pipelines: Sequence[RecordedPipeline], options: ServeOptions) -> None:
        self.options = options
        self.manifest: Manifest = pipelines[0].pipeline.manifest
        self.tiles: int | str = pipelines[0].pipeline.options.tiles
        self.score_floor = pipelines[0].pipeline.options.score_threshold
        self.score_threshold = max(self.score_floor, options.score_threshold)
        slots = options.slots or (1 if pipelines[0].pipeline.device.name == "cpu" else 2)
        queue = slots * len(pipelines) if options.queue is None else options.queue
        self.admission = Admission(pipelines, slots=slots, queue=queue)
        self.metrics = Metrics(options.model, self.admission, pipelines)
        self.trace = Trace(options.kept_requests)
        self.draining = False

    async def process(self, request: Request, work: Work[T]) -> T:
        """Read the body of a request, and do work on it in a slot.

        Args:
            request: The request.
            work: Called in a thread, with the pipeline of the slot, the body and the call.

        Raises:
            RequestError: There is no room, the body cannot be read, or the time is over.
            ClientGoneError: The client left.
            Exception: The work failed.
        """
        if self.draining:
            raise busy_error(503, "a server that is shutting down", 1)
        call: Call = request.scope["call"]
        with self.admission.place() as place:
            body = await read_body(request, call, self.options)
            running = asyncio.create_task(
                self.admission.run(place, call, lambda pipeline: work(pipeline, body, call))
            )
            gone = asyncio.create_task(wait_until_gone(request))
            try:
                rest = self.options.timeout - call.seconds
                await asyncio.wait(
                    (running, gone), timeout=rest, return_when=asyncio.FIRST_COMPLETED
                )
                if running.done():
                    return running.result()
                raise ClientGoneError if gone.done() else self._too_late()
            finally:
                call.abandon()  # nothing, if the work is done
                running.cancel()
                gone.cancel()

    def decode(self, content: bytes, call: Call) -> UInt8Array:
        """Decode an image, (H, W, 3) uint8 RGB.

        Raises:
            InputError: It cannot be decoded, or has too many pixels.
        """
        with call.timed("decode"):
            image = decode(io.BytesIO(content), max_pixels=self.options.max_pixels)
        call.pixels = image.shape[0] * image.shape[1]
        return image

    def wanted_objects(self, given: Mapping[str, object]) -> Selection:
        """Return which objects the parameters of a request select.

        Raises:
            RequestError: A parameter is unknown or out of range.
        """
        threshold, floor = self.score_threshold, self.score_floor
        return Selection.read(given, OF_OBJECTS, threshold=threshold, floor=floor)

    def check_pixels(self, count: int) -> None:
        """Refuse an image with too many pixels.

        Raises:
            RequestError: It has.
        """
        if count > self.options.max_pixels:
            raise RequestError(
                413,
                expected=f"an image of at most {self.options.max_pixels} pixels",
                found=str(count),
                remedy="send a smaller image, or raise --max-pixels of the server",
            )

    def close(self) -> None:
        """Wait for all work, and end the threads; the pipelines stay open."""
        self.admission.close()

    def _too_late(self) -> RequestError:
        return RequestError(
            504,
            expected=f"a result within {self.options.timeout:g} s",
            found="none",
            remedy="send a smaller image or fewer requests, or raise --timeout of the server",
        )
