# SPDX-License-Identifier: Apache-2.0
"""Streams and events of an NVIDIA GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.runtime.devices.cuda_context import CudaContext
    from foveate.runtime.devices.device import Event, Stream

_DISABLE_TIMING, _NON_BLOCKING = 2, 1  # flags of cuEventCreate and of cuStreamCreate


class CudaEvent:
    """A point in a stream; see :class:`foveate.runtime.devices.Event`.

    Args:
        context: The context of the streams.
        timed: Whether the time of the event is measured, which costs a little.
    """

    def __init__(self, context: CudaContext, *, timed: bool = False) -> None:
        self._context = context
        event = context.call("cuEventCreate", 0 if timed else _DISABLE_TIMING)
        self._event = context.own(event, "cuEventDestroy")

    @property
    def handle(self) -> int:
        """The ``CUevent``."""
        return self._event.handle

    def synchronize(self) -> None:
        """Block until the stream has reached this point; raise the error that stopped it."""
        self._context.call("cuEventSynchronize", self.handle)

    def milliseconds_since(self, earlier: CudaEvent) -> float:
        """Return the time since another event; both must be timed."""
        return float(self._context.call("cuEventElapsedTime", earlier.handle, self.handle))


class CudaStream:
    """A stream of a GPU; see :class:`foveate.runtime.devices.Stream`.

    It does not synchronize with the legacy default stream: work that another library enqueues there
    would otherwise wait for ours, and would break a capture.

    Args:
        context: The context of the stream.
    """

    def __init__(self, context: CudaContext) -> None:
        self._context = context
        stream = context.call("cuStreamCreate", _NON_BLOCKING)
        self._stream = context.own(stream, "cuStreamDestroy")

    @property
    def handle(self) -> int:
        """The ``CUstream``."""
        return self._stream.handle

    def record(self, *, timed: bool = False) -> CudaEvent:
        """Return an event that is reached when all work enqueued so far is done."""
        event = CudaEvent(self._context, timed=timed)
        self.mark(event)
        return event

    def mark(self, event: CudaEvent) -> None:
        """Move an event to the end of the work enqueued so far."""
        self._context.call("cuEventRecord", event.handle, self.handle)

    def wait(self, event: Event) -> None:
        """Run all work enqueued from now on after ``event``."""
        assert isinstance(event, CudaEvent), f"{event!r} is not an event of the GPU"
        self._context.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Block until all work enqueued so far is done; raise the error that stopped it."""
        self._context.call("cuStreamSynchronize", self.handle)

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return version and handle for other packages that enqueue on this stream."""
        return (0, self.handle)


def cuda_stream(stream: Stream) -> CudaStream:
    """Return a stream as one of the GPU."""
    assert isinstance(stream, CudaStream), f"{stream!r} is not a stream of the GPU"
    return stream
