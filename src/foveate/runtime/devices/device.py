# SPDX-License-Identifier: Apache-2.0
"""The interface of devices; each device is implemented in one file.

Work is enqueued on streams and runs later, in the order of its stream. One stream waits for another
only through an event. No method blocks, except those that are documented to block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from foveate.arrays import Array
    from foveate.kernels.op import Op
    from foveate.runtime.devices.interop import GpuImage


class Buffer(Protocol):
    """Memory of a device with a shape and a dtype. A view keeps the memory of its owner alive."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes, in C order."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the elements."""

    def view(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Buffer:
        """Return the beginning of this memory with another shape and dtype, without a copy."""

    def part(self, start: int, stop: int) -> Buffer:
        """Return the rows ``start`` to ``stop`` of the first axis, without a copy."""


class Mirror(Protocol):
    """Memory of a device with a counterpart in the memory of the CPU.

    On the CPU, both are the same memory.
    """

    @property
    def array(self) -> Array:
        """The counterpart; page-locked if the device is a GPU."""

    @property
    def buffer(self) -> Buffer:
        """The memory of the device."""

    def send(self, stream: Stream, content: Array | None = None) -> None:
        """Enqueue a copy to the device; the array must not change until it is done.

        Args:
            stream: Stream of the copy.
            content: What is first written into the array.
        """

    def fetch(self, stream: Stream) -> None:
        """Enqueue a copy from the device; the array is valid when it is done."""


class Event(Protocol):
    """A point in a stream."""

    def synchronize(self) -> None:
        """Block until the stream has reached this point; raise the error that stopped it, if any."""


class Stream(Protocol):
    """A queue of work that runs in the order in which it was enqueued."""

    def record(self) -> Event:
        """Return an event that is reached when all work enqueued so far is done."""

    def wait(self, event: Event) -> None:
        """Run all work enqueued from now on after ``event``."""

    def synchronize(self) -> None:
        """Block until all work enqueued so far is done; raise the error that stopped it."""


class Program(Protocol):
    """A sequence of work on one or more streams that is launched again and again."""

    def launch(self) -> Event:
        """Enqueue the work once.

        Returns:
            An event that is reached when all of it is done. It is valid until the next launch.
        """


class Device(Protocol):
    """Memory, streams and programs."""

    @property
    def name(self) -> str:
        """Name of the device on the command line."""

    @property
    def backends(self) -> tuple[str, ...]:
        """Backends whose engines ``"auto"`` tries on the device, in this order."""

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Buffer:
        """Return fresh memory, whose content is undefined.

        Raises:
            OutOfMemoryError: There is not enough memory.
        """

    def mirror(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Mirror:
        """Return fresh memory of the device with a counterpart in the memory of the CPU."""

    def mapped(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Mirror:
        """Return memory of the CPU that operations write directly, without ``fetch``."""

    def stream(self) -> Stream:
        """Return a new stream."""

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue an operation. On a GPU, only a program may do so."""

    def program(
        self, streams: Sequence[Stream], enqueue: Callable[[], None], *, capturable: bool
    ) -> Program:
        """Return a program.

        Args:
            streams: The streams on which ``enqueue`` enqueues work. It forks from the first one by
                events, and joins the others with it before it returns.
            enqueue: Enqueues the work. It is called whenever the program is launched, or, where the
                device can record work, for the first launches only. It must enqueue the same work
                each time.
            capturable: Whether all of the work can be recorded.
        """

    def accept(self, image: object) -> GpuImage | None:
        """Return an array of another library in the memory of this device; None for anything else.

        Raises:
            InputError: It is no image, or it lies in the memory of another device.
        """

    def share(self, buffer: Buffer, owner: object) -> Any:
        """Return a complete result as an array for other libraries, which keeps ``owner`` alive.

        Raises:
            OptionError: The device has no memory of its own.
        """

    def close(self) -> None:
        """Finish all streams and release the resources of the device."""
