# SPDX-License-Identifier: Apache-2.0
"""Pipelines that record the work of each request, so that it has times and can be abandoned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike

from foveate.page import SCORE_THRESHOLD
from foveate.runtime import Pipeline, PipelineOptions, load
from foveate.serve.call import Call
from foveate.serve.options import ServeOptions
from foveate.system.resources import usable_cores
from foveate.tracing.clock import SystemClock
from foveate.tracing.image_trace import total_times
from foveate.tracing.recording import Recorder, record_pipeline


class RecordedPipeline:
    """A pipeline whose work is recorded. Several threads may share it.

    On a GPU, where the work of an image, or of a tile of it, is replayed from a graph by one call,
    there are no times of networks, and work that has begun cannot be abandoned.

    Args:
        pipeline: A pipeline that was not used so far. Closing it closes this one as well.

    Attributes:
        pipeline: A pipeline with the same engines and device.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._recorder = Recorder(SystemClock())
        self.pipeline = record_pipeline(self._recorder, pipeline)
        memory = getattr(pipeline.device, "memory", None)  # only GPUs have their own
        self.memory = memory if callable(memory) else None

    def release(self) -> None:
        """Return memory to the system that the next image takes anew, on the CPU."""
        if self.pipeline.device.name == "cpu":
            from foveate.runtime.engines.onnxruntime import release_arena  # noqa: PLC0415 - a GPU may do without

            release_arena()

    @contextmanager
    def recorded(self, call: Call) -> Iterator[Pipeline]:
        """Yield the pipeline, whose work in the calling thread is recorded as that of a call.

        Raises:
            AbandonedError: The call was abandoned; also from the work.
        """
        with call.timed("pipeline"):
            call.trace = self._recorder.begin(0)
            try:
                call.check()  # now that the trace is there, so that no `abandon` is missed
                yield self.pipeline
            finally:
                self._recorder.end()
                call.times.update(total_times(call.trace, "network"))


def open_pipelines(
    bundle: str | PathLike[str],
    options: ServeOptions,
    pipeline_options: PipelineOptions,
    *,
    device: str = "auto",
    backend: str = "auto",
) -> list[Pipeline]:
    """Open the pipelines of a server, which the caller closes.

    Unless ``pipeline_options.threads`` is given, they divide the cores among them.

    Args:
        bundle: Name of a shipped bundle, or a directory.
        options: Options of the server, whose slots and threshold replace those of the pipelines.
        pipeline_options: Options of each pipeline.
        device: See ``foveate.load``.
        backend: See ``foveate.load``.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        BackendError: The device or the backend does not work on this machine.
        OptionError: There is no such device, backend or preset, or they do not fit each other.
    """
    # The tiles of an image pass through its slot one by one, so that it takes no more memory.
    slots = 1 if pipeline_options.tiles != "off" else options.slots
    chosen = replace(
        pipeline_options,
        max_in_flight=slots or pipeline_options.max_in_flight,
        # Requests and the page select from these, as a pipeline with their threshold would.
        score_threshold=min(options.score_threshold, SCORE_THRESHOLD),
    )
    if chosen.threads is None and options.workers > 1:
        chosen = replace(chosen, threads=max(1, usable_cores() // options.workers))
    pipelines: list[Pipeline] = []
    try:
        for _ in range(options.workers):
            pipelines.append(load(bundle, device=device, backend=backend, options=chosen))
    except BaseException:
        close_pipelines(pipelines)
        raise
    return pipelines


def close_pipelines(pipelines: list[Pipeline]) -> None:
    """Close pipelines."""
    for pipeline in pipelines:
        pipeline.close()
