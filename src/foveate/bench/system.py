# SPDX-License-Identifier: Apache-2.0
"""The pipeline that is measured."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from foveate.bench.record import Subject
from foveate.images.reading import read_image
from foveate.runtime import PipelineOptions
from foveate.tracing.image_trace import Work
from foveate.tracing.recording import Recorder, record_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from foveate.bench.images import Images
    from foveate.bundle import Bundle
    from foveate.runtime import Pipeline
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine
    from foveate.tracing.clock import Clock
    from foveate.tracing.image_trace import ImageTrace
    from foveate.tracing.nvtx_ranges import NvtxRanges

_LIBRARIES = ("numpy", "cv2", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch")


class PipelineSystem:
    """A pipeline whose work is recorded, and the images that it processes.

    Args:
        pipeline: The pipeline, of which this takes ownership.
        images: The images; their order gives them their indices.
        clock: Clock of all times.
        ranges: Where the work is shown to a profiler; None for none.
    """

    def __init__(
        self, pipeline: Pipeline, images: Images, clock: Clock, ranges: NvtxRanges | None = None
    ) -> None:
        self._recorder = Recorder(clock, ranges)
        self._images = images
        self.pipeline = record_pipeline(self._recorder, pipeline)
        # A bundle without a classifier only proposes.
        self._classifies = "classify" in pipeline.engines

    def run(self, index: int) -> ImageTrace:
        """Process an image, and return when its result is there."""
        trace = self._recorder.begin(index)
        try:
            image = self._read(index, trace)
            if self._classifies:
                self.pipeline(image)
            else:
                self.pipeline.propose(image)
        finally:
            self._recorder.end()
            trace.finish()
        return trace

    def stream(self, indices: Iterable[int]) -> Iterator[ImageTrace]:
        """Process images with several in flight; one after the other if the bundle only proposes."""
        if not self._classifies:
            yield from map(self.run, indices)
            return
        traces: list[ImageTrace] = []

        def images() -> Iterator[Any]:
            for index in indices:
                traces.append(self._recorder.begin(index))
                yield self._read(index, traces[-1])

        try:
            for _ in self.pipeline.stream(images()):
                traces[0].finish()
                yield traces.pop(0)
        finally:
            self._recorder.end()
            for trace in traces:
                trace.finish()

    def close(self) -> None:
        """Release the pipeline."""
        self.pipeline.close()

    def _read(self, index: int, trace: ImageTrace) -> Any:
        """Return the pixels of an image, read from its file unless they are in memory."""
        if self._images.arrays:
            return self._images.arrays[index]
        read = partial(read_image, self._images.files[index])
        return Work("read", "file", "host").run(self._recorder.now, trace, read)


def describe_subject(
    bundle: Bundle,
    device: Device,
    backend: str,
    engines: Mapping[str, Engine],
    options: PipelineOptions,
) -> Subject:
    """Return the description of what is measured."""
    defaults, chosen = PipelineOptions(), options.with_preset(bundle.manifest)
    given = {one.name: getattr(chosen, one.name) for one in fields(chosen)}
    changed = {k: v for k, v in given.items() if v != getattr(defaults, k) and k != "threads"}
    return Subject(
        bundle=bundle.manifest.name,
        digest=hashlib.sha256((bundle.root / "manifest.json").read_bytes()).hexdigest(),
        device=device.name,
        backend=_backend_of(backend, device, engines),
        precision={name: bundle.manifest.precision_of(name) for name in bundle.manifest.networks},
        threads=options.threads,
        options=changed,
        versions={
            name: str(sys.modules[name].__version__) for name in _LIBRARIES if name in sys.modules
        },
    )


def _backend_of(backend: str, device: Device, engines: Mapping[str, Engine]) -> str:
    """Return the name of the backend of these engines, which may have been chosen by "auto"."""
    if backend != "auto":
        return backend
    if len(device.backends) == 1:
        return device.backends[0]
    plans = getattr(engines["propose"], "plans", None)  # only engines of TensorRT have them
    return "onnxruntime" if plans is None else str(plans.folder.name)
