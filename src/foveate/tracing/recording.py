# SPDX-License-Identifier: Apache-2.0
"""A device and engines that record when the work of an image runs.

They wrap those of a pipeline, which is unaware of them, so that a pipeline that is not measured
pays nothing. On the CPU, the thread of a stream notes the time before and after each piece of work.
On a GPU, where work is replayed from a graph, only the calls of the host are recorded.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from foveate.runtime.devices.cpu import CpuDevice, CpuStream
from foveate.runtime.pipeline import Pipeline
from foveate.tracing.image_trace import AbandonedError, ImageTrace, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from foveate.arrays import Array
    from foveate.bundle.manifest import TensorSpec
    from foveate.kernels.op import Op
    from foveate.runtime.devices import Buffer, Device, Event, Mirror, Program, Stream
    from foveate.runtime.engines import Engine
    from foveate.tracing.clock import Clock
    from foveate.tracing.nvtx_ranges import NvtxRanges

T = TypeVar("T")


class Recorder:
    """Collects the work of the calling thread's image, and shows it to a profiler if it has ranges."""

    def __init__(self, clock: Clock, ranges: NvtxRanges | None = None) -> None:
        self.now = clock.now
        self.ranges = ranges
        self._threads = threading.local()
        self._tracks: WeakKeyDictionary[Stream, str] = WeakKeyDictionary()

    @property
    def current(self) -> ImageTrace | None:
        """The trace of the image of the calling thread."""
        return getattr(self._threads, "trace", None)

    def begin(self, index: int) -> ImageTrace:
        """Begin the trace of an image, which the calling thread sends to the pipeline next."""
        trace = ImageTrace(index)
        if self.ranges is not None:
            trace.finish = self.ranges.begin(index)
        self._threads.trace = trace
        return trace

    def end(self) -> None:
        """Record no more work of the calling thread."""
        self._threads.trace = None

    def name_tracks(self, streams: Sequence[Stream]) -> None:
        """Name the streams of a slot, of which the first one identifies it."""
        if streams[0] in self._tracks:
            slot = self._tracks[streams[0]].partition(",")[0]
        else:
            used = {name.partition(",")[0] for name in self._tracks.values()}
            slot = next(name for i in range(len(used) + 1) if (name := f"slot {i}") not in used)
        for number, stream in enumerate(streams):
            self._tracks[stream] = f"{slot}, stream {number}"

    def around(self, stream: Stream, kind: str, name: str, enqueue: Callable[[], None]) -> None:
        """Enqueue work, and have the stream note the time before and after it."""
        trace = self.current
        if trace is None:
            enqueue()
            return
        if not isinstance(stream, _RecordingStream):
            self.ranged(name, trace, enqueue)()
            return
        stream.label = (trace, kind, name, self._tracks.get(stream, "stream"))
        try:
            enqueue()
        finally:
            stream.label = None

    def ranged(self, name: str, trace: ImageTrace, function: Callable[[], T]) -> Callable[[], T]:
        """Return a function that does the same where a profiler shows it, if there are ranges."""
        return function if self.ranges is None else self.ranges.within(name, trace.index, function)


def record_pipeline(recorder: Recorder, pipeline: Pipeline) -> Pipeline:
    """Return a pipeline whose work is recorded; it takes engines and device of an unused one.

    Raises:
        BackendError: The pipeline is closed, or was loaded in another process.
    """
    pipeline.check_usable()  # the new one would know neither
    return Pipeline(
        pipeline.bundle,
        {name: RecordingEngine(recorder, name, one) for name, one in pipeline.engines.items()},
        device=RecordingDevice(recorder, pipeline.device),
        options=pipeline.options,
    )


class _RecordingStream(CpuStream):
    """A stream of the CPU whose thread notes the times of its work.

    A task of its own before and after each piece of work would cost ten times as much.

    Attributes:
        label: Trace, kind, name and track of the work that is enqueued; None to record nothing.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.label: tuple[ImageTrace, str, str, str] | None = None
        self._recorder = recorder

    def enqueue(self, function: Callable[..., None], *args: object, **options: object) -> None:
        """Run ``function(*args, **options)`` when all earlier work is done, and note its times."""
        if self.label is None:
            super().enqueue(function, *args, **options)
            return
        trace, kind, name, track = self.label
        work = Work(kind, name, track)
        run = self._recorder.ranged(name, trace, partial(function, *args, **options))
        super().enqueue(_run_unless_abandoned, work, self._recorder.now, trace, run)


def _run_unless_abandoned(
    work: Work, now: Callable[[], float], trace: ImageTrace, run: Callable[[], None]
) -> None:
    if trace.abandoned:
        raise AbandonedError
    work.run(now, trace, run)


class RecordingEngine:
    """An engine whose runs are recorded under the name of its stage."""

    def __init__(self, recorder: Recorder, stage: str, engine: Engine) -> None:
        self._recorder, self._stage, self._engine = recorder, stage, engine
        self.inputs: tuple[TensorSpec, ...] = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = engine.outputs
        self.capturable = engine.capturable
        self.rows_at_once = engine.rows_at_once
        self.rows_for = engine.rows_for
        self.close = engine.close

    def bind(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> Callable[[], None]:
        """Prepare recorded runs; see :class:`foveate.runtime.engines.Engine`."""
        run = self._engine.bind(bindings, stream, rows=rows, first=first)
        return partial(self._recorder.around, stream, "network", self._stage, run)


class RecordingDevice:
    """A device whose operations, copies and programs are recorded."""

    def __init__(self, recorder: Recorder, device: Device) -> None:
        self._recorder, self._device = recorder, device
        self.name = device.name
        self.backends = device.backends
        self.allocate = device.allocate
        self.share = device.share
        self.mapped = device.mapped
        self.accept = device.accept
        self.close = device.close

    def stream(self) -> Stream:
        """Return a new stream, which records its work if it is one of the CPU."""
        if isinstance(self._device, CpuDevice):
            return _RecordingStream(self._recorder)
        return self._device.stream()

    def mirror(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Mirror:
        """Return memory whose copies are recorded."""
        return _RecordingMirror(self._recorder, self._device.mirror(shape, dtype))

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue an operation and record it."""
        enqueue = partial(self._device.launch, op, stream, *buffers, **numbers)
        self._recorder.around(stream, "operation", op.name, enqueue)

    def program(
        self, streams: Sequence[Stream], enqueue: Callable[[], None], *, capturable: bool
    ) -> Program:
        """Return a program whose launches are recorded.

        With ranges, each launch enqueues the work anew: what a graph replays belongs to no range.
        """
        self._recorder.name_tracks(streams)
        capturable = capturable and self._recorder.ranges is None
        program = self._device.program(streams, enqueue, capturable=capturable)
        return _RecordingProgram(self._recorder, program)


class _RecordingProgram:
    """A program that records how long a launch takes, and when its work is waited for."""

    def __init__(self, recorder: Recorder, program: Program) -> None:
        self._recorder, self._program = recorder, program
        self._fetched: dict[int, int] = {}

    def launch(self) -> Event:
        trace = self._recorder.current
        if trace is None:
            return self._program.launch()
        if trace.abandoned:  # between two tiles of an image
            raise AbandonedError
        if trace.launched is None:  # the first tile of an image
            trace.launched = self._recorder.now()
        event = self._recorder.ranged("enqueue", trace, self._program.launch)()
        trace.enqueued = self._recorder.now()
        # A graph that is replayed copies as the first launch did, without a call of ours.
        self._fetched = trace.fetched = trace.fetched or self._fetched
        return _RecordingEvent(self._recorder, event, trace)


class _RecordingEvent:
    """The end of a program, which records how long the calling thread waits for it."""

    def __init__(self, recorder: Recorder, event: Event, trace: ImageTrace) -> None:
        self._recorder, self._event, self._trace = recorder, event, trace

    def synchronize(self) -> None:
        self._trace.waited = self._recorder.now()
        self._recorder.ranged("wait", self._trace, self._event.synchronize)()
        self._trace.done = self._recorder.now()


class _RecordingMirror:
    """Memory with a counterpart, whose copies are recorded.

    On the CPU, only the content is copied, by the calling thread.
    """

    def __init__(self, recorder: Recorder, mirror: Mirror) -> None:
        self._recorder, self._mirror = recorder, mirror

    @property
    def array(self) -> Array:
        return self._mirror.array

    @property
    def buffer(self) -> Buffer:
        return self._mirror.buffer

    def send(self, stream: Stream, content: Array | None = None) -> None:
        trace = self._recorder.current
        if trace is None:
            self._mirror.send(stream, content)
            return
        send = partial(self._mirror.send, stream, content)
        Work("copy", "image", "host").run(self._recorder.now, trace, send)
        trace.sent_bytes += self._mirror.array.nbytes

    def fetch(self, stream: Stream) -> None:
        trace = self._recorder.current
        self._mirror.fetch(stream)
        if trace is not None:
            trace.fetched[id(self)] = self._mirror.array.nbytes
