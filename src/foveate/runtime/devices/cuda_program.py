# SPDX-License-Identifier: Apache-2.0
"""Work for a GPU that is recorded as a CUDA graph and launched by one call."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from foveate.errors import BackendError
from foveate.runtime.devices.cuda_streams import CudaEvent, CudaStream

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.runtime.devices.cuda import CudaDevice
    from foveate.runtime.devices.cuda_context import CudaContext, Owned
    from foveate.runtime.devices.cuda_memory import CudaBuffer

_logger = logging.getLogger(__name__)


class Scratch:
    """Memory of all launches of a program; see :class:`foveate.kernels.op.Memory`.

    The first pass through the program takes the memory. Every later pass gets the same pieces in
    the same order, so that it allocates and uploads nothing.

    Args:
        device: Device of the memory.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._pieces: list[tuple[CudaBuffer, bytes | None]] = []
        self._next: int | None = None  # index of the next piece; None in the first pass

    def rewind(self) -> None:
        """Begin a pass after the first one."""
        self._next = 0

    def end(self) -> None:
        """End a pass after the first one, which has asked for all pieces."""
        assert self._next == len(self._pieces), "a pass asked for fewer pieces than the first one"

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> CudaBuffer:
        """Return an array whose content is undefined."""
        return self._take(shape, np.dtype(dtype), None)

    def upload(self, array: Array) -> CudaBuffer:
        """Return a copy of a small array, which is complete."""
        return self._take(array.shape, array.dtype, array)

    def _take(
        self, shape: tuple[int, ...], dtype: np.dtype[np.generic], table: Array | None
    ) -> CudaBuffer:
        content = None if table is None else table.tobytes()
        if self._next is None:
            made = self._device.allocate(shape, dtype) if table is None else self._send(table)
            self._pieces.append((made, content))
            return made
        assert self._next < len(self._pieces), "a pass asked for more pieces than the first one"
        piece, first = self._pieces[self._next]
        self._next += 1
        same = (piece.shape, piece.dtype, first) == (shape, dtype, content)
        assert same, f"a pass asked for {dtype}{list(shape)}, the first one for {piece}"
        return piece

    def _send(self, table: Array) -> CudaBuffer:
        mirror = self._device.mirror(table.shape, table.dtype)
        np.copyto(mirror.array, table)
        mirror.send(self._device.memory_stream)
        self._device.memory_stream.synchronize()
        return mirror.buffer


class CudaProgram:
    """A program of a GPU; see :class:`foveate.runtime.devices.Program`.

    The first launch enqueues the work as it is: kernels are loaded, engines set themselves up, and
    memory is taken. It then enqueues the work a second time to record it. The following launches are
    one call each. If the work cannot be recorded, it is enqueued by every launch.

    Args:
        device: The GPU.
        streams: See :meth:`foveate.runtime.devices.Device.program`.
        enqueue: See there.
        capturable: See there.
    """

    def __init__(
        self,
        device: CudaDevice,
        streams: Sequence[CudaStream],
        enqueue: Callable[[], None],
        *,
        capturable: bool,
    ) -> None:
        self._device = device
        self._context: CudaContext = device.context
        self._origin = streams[0]
        self._enqueue = enqueue
        self._capturable = capturable
        self._end = CudaEvent(device.context)
        self._scratch: Scratch | None = None
        self._graph: Owned | None = None

    @property
    def recorded(self) -> bool:
        """Whether the next launch replays a graph."""
        return self._graph is not None

    def launch(self) -> CudaEvent:
        """Enqueue the work once, and return the event at its end."""
        if self._graph is not None:
            self._context.call("cuGraphLaunch", self._graph.handle, self._origin.handle)
            self._origin.mark(self._end)
        elif self._scratch is not None:
            self._context.collect()  # the events of the last pass
            self._pass(self._scratch)
            self._origin.mark(self._end)
        else:
            self._launch_first()
        return self._end

    def _launch_first(self) -> None:
        scratch = Scratch(self._device)
        self._device.run_with(scratch, self._enqueue)
        self._origin.mark(self._end)
        self._scratch = scratch
        if self._capturable:
            try:
                self._graph = self._instantiate(scratch)
            except BackendError as error:
                self._context.check_usable()
                report_once(str(error))

    def _pass(self, scratch: Scratch) -> None:
        """Enqueue the work on the memory of the first pass."""
        scratch.rewind()
        self._device.run_with(scratch, self._enqueue)
        scratch.end()

    def _instantiate(self, scratch: Scratch) -> Owned:
        graph = self._capture(scratch)
        executable = self._context.call("cuGraphInstantiate", graph.handle, 0)
        return self._context.own(executable, "cuGraphExecDestroy")

    def _capture(self, scratch: Scratch) -> Owned:
        """Record the work instead of running it, and return the graph."""
        with _without_collection():
            self._context.begin_capture(self._origin.handle)
            try:
                self._pass(scratch)
                return self._end_capture()
            except BaseException:
                with suppress(BackendError):  # it has ended already, or has another error
                    self._end_capture()
                raise

    def _end_capture(self) -> Owned:
        graph = self._context.call("cuStreamEndCapture", self._origin.handle)
        return self._context.own(graph, "cuGraphDestroy")


@contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage: what frees memory when it dies, such as an array of PyCUDA, breaks a capture."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def report_once(reason: str) -> None:
    """Warn of a refused capture, once for each reason, and not for every size of images."""
    _logger.warning("the work for an image is not recorded, which costs time: %s", reason)
