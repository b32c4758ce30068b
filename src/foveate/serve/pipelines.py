# SPDX-License-Identifier: Apache-2.0
"""Pipelines that record the work of each request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike

from foveate.arrays import UInt8Array
from foveate.bench.clock import SystemClock
from foveate.bench.image_trace import divide
from foveate.bench.recording import Recorder, RecordingDevice, RecordingEngine
from foveate.bundle import Bundle, read_bundle
from foveate.results.detections import Detections, Proposals
from foveate.runtime import Pipeline, PipelineOptions
from foveate.runtime.devices import Device
from foveate.runtime.engines import Engine
from foveate.runtime.loading import open_parts
from foveate.serve.call import Call
from foveate.system.resources import usable_cores


class RecordedPipeline(Pipeline):
    """A pipeline that records the times of its networks, and whose work can be abandoned.

    Arguments and errors are those of :class:`foveate.Pipeline`. On a GPU, where the work of an image
    is replayed from a graph by one call, there are no times of networks and nothing to abandon.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Engine],
        *,
        device: Device,
        options: PipelineOptions,
    ) -> None:
        self.recorder = Recorder(SystemClock())
        super().__init__(
            bundle,
            {name: RecordingEngine(self.recorder, name, one) for name, one in engines.items()},
            device=RecordingDevice(self.recorder, device),
            options=options,
        )
        memory = getattr(device, "memory", None)  # only GPUs have their own
        self.memory = memory if callable(memory) else None


def open_pipelines(
    bundle: str | PathLike[str],
    options: PipelineOptions,
    *,
    count: int = 1,
    device: str = "auto",
    backend: str = "auto",
) -> list[RecordedPipeline]:
    """Open pipelines that share nothing; the caller closes them.

    Unless ``options.threads`` is given, they divide the cores among them.

    Args:
        bundle: Name of a shipped bundle, or a directory.
        options: Options of each pipeline.
        count: Number of pipelines.
        device: See ``foveate.load``.
        backend: See ``foveate.load``.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        BackendError: The device or the backend does not work on this machine.
        OptionError: There is no such device, backend or preset, or they do not fit each other.
    """
    if options.threads is None and count > 1:
        options = replace(options, threads=max(1, usable_cores() // count))
    pipelines: list[RecordedPipeline] = []
    try:
        for _ in range(count):
            opened, place, engines = read_bundle(
                bundle, lambda opened: (opened, *open_parts(opened, device, backend, options))
            )
            pipelines.append(RecordedPipeline(opened, engines, device=place, options=options))
    except BaseException:
        close_pipelines(pipelines)
        raise
    return pipelines


def close_pipelines(pipelines: list[RecordedPipeline]) -> None:
    """Close pipelines."""
    for pipeline in pipelines:
        pipeline.close()


def detect(pipeline: Pipeline, image: UInt8Array, call: Call) -> Detections:
    """Find the objects in an image, (H, W, 3) uint8 RGB, and note the times of the networks."""
    with call.timed("pipeline"), _recorded(pipeline, call):
        return pipeline(image)


def propose(pipeline: Pipeline, image: UInt8Array, call: Call) -> Proposals:
    """Find the proposals in an image, (H, W, 3) uint8 RGB, and note the times of the networks."""
    with call.timed("pipeline"), _recorded(pipeline, call):
        return pipeline.propose(image)


@contextmanager
def _recorded(pipeline: Pipeline, call: Call) -> Iterator[None]:
    """Record the work of the calling thread as that of a call."""
    if not isinstance(pipeline, RecordedPipeline):
        yield
        return
    recorder = pipeline.recorder
    call.trace = recorder.begin(0)
    begin = recorder.now()
    try:
        call.check()  # now that the trace is there, so that no `abandon` is missed
        yield
    finally:
        recorder.end()
        call.times.update(divide(call.trace, begin, recorder.now()).stages)
