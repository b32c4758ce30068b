# SPDX-License-Identifier: Apache-2.0
"""The CPU as a device: NumPy memory, and in-order streams of Python functions."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING, NoReturn

import cv2
import numpy as np

from foveate.errors import InputError, OptionError, OutOfMemoryError
from foveate.runtime.devices.interop import is_on_gpu
from foveate.system.executors import submit
from foveate.system.resources import usable_cores

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.kernels.op import Op
    from foveate.runtime.devices.device import Buffer, Event, Stream


class CpuBuffer:
    """Memory of the CPU.

    Args:
        array: The memory, as a NumPy array in C order; shared, not copied.
    """

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the elements."""
        return self.array.dtype

    def view(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CpuBuffer:
        """Return the beginning of this memory with another shape and dtype, without a copy."""
        size = prod(shape) * dtype.itemsize
        flat = self.array.reshape(-1).view(np.uint8)
        assert size <= flat.nbytes, f"{shape} {dtype} needs {size} bytes, {flat.nbytes} are here"
        return CpuBuffer(flat[:size].view(dtype).reshape(shape))

    def part(self, start: int, stop: int) -> CpuBuffer:
        """Return rows ``start`` to ``stop`` of the first axis, without a copy."""
        return CpuBuffer(self.array[start:stop])

    def __repr__(self) -> str:
        return f"CpuBuffer({self.dtype}{list(self.shape)})"


class CpuMirror:
    """Memory of the CPU, which is its own counterpart.

    Args:
        buffer: The memory.
    """

    def __init__(self, buffer: CpuBuffer) -> None:
        self.buffer = buffer
        self.array = buffer.array

    def send(self, stream: Stream, content: Array | None = None) -> None:
        """Write the content, if given; nothing else is copied."""
        del stream
        if content is not None:
            np.copyto(self.array, content)

    def fetch(self, stream: Stream) -> None:
        """Do nothing, since nothing is copied."""


class CpuEvent:
    """A point in a stream; see :class:`foveate.runtime.devices.Event`."""

    def __init__(self, stream: CpuStream) -> None:
        self._stream = stream
        self._reached = threading.Event()
        self._failure: Exception | None = None

    def block(self) -> None:
        """Block until the stream has reached this point, whether or not it failed."""
        self._reached.wait()

    def reach(self, failure: Exception | None) -> None:
        """Mark this point as reached, with the error that stopped the stream, if any."""
        self._failure = failure
        self._reached.set()

    def synchronize(self) -> None:
        """Block until the stream has reached this point; raise the error that stopped it."""
        self.block()
        if self._failure is not None:
            self._stream.restart(self._failure)
            raise self._failure


class CpuStream:
    """An in-order stream of Python functions, which run in a thread of the stream.

    An error stops the stream: later functions are skipped until an event that was recorded after
    the error has raised it. The error does not spread through :meth:`wait`. The code that collects
    a result therefore synchronizes every stream that contributed to it, as :class:`CpuProgram` does.
    """

    def __init__(self) -> None:
        # The interpreter waits for the threads of executors when it exits. A daemon thread that is
        # inside an engine at that moment would abort the process.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="foveate-stream")
        self._tasks: deque[Callable[[], None]] = deque()
        self._is_running = False
        self._lock = threading.Lock()  # of the two above
        self._failure: Exception | None = None

    def enqueue(self, function: Callable[..., None], *args: object, **options: object) -> None:
        """Run ``function(*args, **options)`` when all earlier work is done."""

        def task() -> None:
            if self._failure is None:
                try:
                    function(*args, **options)
                except Exception as error:  # noqa: BLE001 - the next event raises it
                    self._failure = error

        self.submit(task)

    def record(self) -> CpuEvent:
        """Return an event that is reached when all work enqueued so far is done."""
        event = CpuEvent(self)
        self.submit(lambda: event.reach(self._failure))
        return event

    def wait(self, event: Event) -> None:
        """Run all work enqueued from now on after ``event``."""
        assert isinstance(event, CpuEvent), f"{event!r} is not an event of the CPU"
        self.submit(event.block)

    def synchronize(self) -> None:
        """Block until all work enqueued so far is done; raise the error that stopped it."""
        self.record().synchronize()

    def submit(self, task: Callable[[], None]) -> None:
        """Run a task that does not raise, even after an error."""
        with self._lock:
            self._tasks.append(task)
            if self._is_running:
                return
            self._is_running = True
        submit(self._executor, self._run)

    def _run(self) -> None:
        """Run the tasks that are there. Each as a task of the executor would cost twice the time."""
        while True:
            with self._lock:
                if not self._tasks:
                    self._is_running = False
                    return
                task = self._tasks.popleft()
            task()
            del task  # the traceback of an error refers to this frame, and the error to memory

    def restart(self, failure: Exception) -> None:
        """Clear an error that has been raised."""
        if self._failure is failure:
            self._failure = None


class CpuEvents:
    """The ends of several streams as one event.

    Args:
        events: The events. All of them are waited for, so that the memory is free for other work.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events

    def synchronize(self) -> None:
        """Block until all streams have reached their points; raise the first error of one."""
        failures = []
        for event in self._events:
            try:
                event.synchronize()
            except Exception as error:  # noqa: BLE001 - raised below, when all streams are done
                failures.append(error)
        for other in failures[1:]:
            other.with_traceback(None)  # nobody sees it, and its frames would keep the memory
        if failures:
            raise failures[0]


class CpuProgram:
    """Work that each launch enqueues again; see :class:`foveate.runtime.devices.Program`."""

    def __init__(self, streams: Sequence[Stream], enqueue: Callable[[], None]) -> None:
        self._streams = streams
        self._enqueue = enqueue

    def launch(self) -> CpuEvents:
        """Enqueue the work once, and return an event at the end of all streams."""
        self._enqueue()
        return CpuEvents([stream.record() for stream in reversed(self._streams)])


class CpuDevice:
    """Memory, streams and programs on the CPU."""

    name = "cpu"
    backends = ("onnxruntime",)

    def __init__(self) -> None:
        if cv2.getNumThreads() > usable_cores():  # OpenCV ignores some kinds of quotas
            cv2.setNumThreads(usable_cores())

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CpuBuffer:
        """Return fresh memory, whose content is undefined.

        Raises:
            OutOfMemoryError: There is not enough memory.
        """
        try:
            return CpuBuffer(np.empty(shape, dtype))
        except (MemoryError, ValueError) as error:  # ValueError for sizes beyond the address space
            raise OutOfMemoryError(
                f"there is not enough memory for {prod(shape) * dtype.itemsize / 1e6:.0f} MB",
                remedy="use a smaller image, top_k, max_side or max_in_flight",
            ) from error

    def stream(self) -> CpuStream:
        """Return a new stream, whose thread ends with it."""
        return CpuStream()

    def mirror(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CpuMirror:
        """Return memory that is its own counterpart."""
        return CpuMirror(self.allocate(shape, dtype))

    def mapped(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CpuMirror:
        """Return memory that is its own counterpart."""
        return self.mirror(shape, dtype)

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue an operation; see :class:`foveate.kernels.op.Op`."""
        cpu_stream(stream).enqueue(op.cpu, *map(_arrays, buffers), **numbers)

    def program(
        self, streams: Sequence[Stream], enqueue: Callable[[], None], *, capturable: bool
    ) -> CpuProgram:
        """Return a program whose launches call ``enqueue``."""
        del capturable  # nothing is recorded
        return CpuProgram(streams, enqueue)

    def accept(self, image: object) -> None:
        """Refuse arrays in the memory of a GPU.

        Raises:
            InputError: The image is one.
        """
        if is_on_gpu(image):
            raise InputError(
                "the image lies in the memory of a GPU, expected that of the CPU, on which the "
                "pipeline runs",
                remedy="load the pipeline with device='cuda', or copy the image to the CPU",
            )

    def share(self, buffer: Buffer, owner: object) -> NoReturn:
        """Refuse: the results of a pipeline already lie in the memory of the CPU.

        Raises:
            OptionError: Always.
        """
        del buffer, owner
        raise OptionError(
            "results can stay in the memory of a GPU only, found the device 'cpu'",
            remedy="omit on_device, or load the pipeline with device='cuda'",
        )

    def close(self) -> None:
        """Do nothing: memory and threads end with their last user."""


def cpu_array(buffer: Buffer) -> Array:
    """Return the NumPy array of a buffer in the memory of the CPU."""
    assert isinstance(buffer, CpuBuffer), f"{buffer!r} is not memory of the CPU"
    return buffer.array


def _arrays(buffers: Buffer | Sequence[Buffer] | None) -> Array | list[Array] | None:
    if buffers is None:
        return None
    if isinstance(buffers, CpuBuffer):
        return buffers.array
    assert isinstance(buffers, Sequence), f"{buffers!r} is not memory of the CPU"
    return [cpu_array(buffer) for buffer in buffers]


def cpu_stream(stream: Stream) -> CpuStream:
    """Return a stream as one of the CPU."""
    assert isinstance(stream, CpuStream), f"{stream!r} is not a stream of the CPU"
    return stream
