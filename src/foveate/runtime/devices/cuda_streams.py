# SPDX-License-Identifier: Apache-2.0
"""Streams and events of an NVIDIA GPU, based on NVIDIA's package ``cuda-core``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from foveate.errors import BackendError

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.runtime.devices.device import Event, Stream


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Raise errors of the driver as ``BackendError``."""
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        raise BackendError(f"{what}: {error}", remedy=_REMEDY) from error
    except Exception as error:
        if type(error).__name__ not in ("CUDAError", "NVRTCError"):
            raise
        raise BackendError(f"{what}: {error}", remedy=_REMEDY) from error


_REMEDY = "`foveate doctor` shows what works here; device='cpu' needs no GPU"


class CudaEvent:
    """A point in a stream; see :class:`foveate.runtime.devices.Event`."""

    def __init__(self, event: Any) -> None:
        self.event = event

    def synchronize(self) -> None:
        """Block until the stream reached it; raise the error that stopped the stream, if any."""
        with translate_errors("the GPU stopped"):
            self.event.sync()

    def milliseconds_since(self, earlier: CudaEvent) -> float:
        """Return the time between two events that were recorded with ``timed=True``."""
        with translate_errors("no time between events"):
            return float(self.event - earlier.event)


class CudaStream:
    """A stream of a GPU; see :class:`foveate.runtime.devices.Stream`.

    Args:
        driver: ``cuda.core``.
        stream: The ``cuda.core.Stream``.
    """

    def __init__(self, driver: Any, stream: Any) -> None:
        self._driver = driver
        self.stream = stream
        self._read: deque[tuple[Any, Array]] = deque()  # arrays that are read until the events

    def record(self, *, timed: bool = False) -> CudaEvent:
        """Return an event that happens when all work enqueued so far is done."""
        with translate_errors("no event"):
            options = self._driver.EventOptions(timing_enabled=timed)
            return CudaEvent(self.stream.record(options=options))

    def wait(self, event: Event) -> None:
        """Let all work enqueued from now on run after ``event``."""
        assert isinstance(event, CudaEvent), f"{event!r} is not an event of the GPU"
        with translate_errors("no wait"):
            self.stream.wait(event.event)

    def synchronize(self) -> None:
        """Block until all work enqueued so far is done; raise the error that stopped it."""
        with translate_errors("the GPU stopped"):
            self.stream.sync()

    def keep(self, array: Array) -> None:
        """Keep memory of the host alive until all work enqueued so far is done."""
        with translate_errors("no event"):
            while self._read and self._read[0][0].is_done:
                self._read.popleft()
            self._read.append((self.stream.record(), array))

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return version and handle for other packages that enqueue on this stream."""
        return (0, int(self.stream.handle))


def cuda_stream(stream: Stream) -> CudaStream:
    """Return a stream as one of the GPU."""
    assert isinstance(stream, CudaStream), f"{stream!r} is not a stream of the GPU"
    return stream
