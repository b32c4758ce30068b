# SPDX-License-Identifier: Apache-2.0
"""The interface of devices; each device is implemented in one file.

Work is enqueued on streams and runs later, in the order of its stream. One stream waits for another
only through an event. No method blocks, except those that are documented to block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from foveate.arrays import Array
    from foveate.kernels.op import Op


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


class Device(Protocol):
    """Memory, streams, copies and launches."""

    @property
    def name(self) -> str:
        """Name of the device on the command line."""

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Buffer:
        """Return fresh memory, whose content is undefined."""

    def stream(self) -> Stream:
        """Return a new stream."""

    def upload(self, source: Array, target: Buffer, stream: Stream) -> None:
        """Enqueue a copy to the device; ``source`` must not change until it is done."""

    def download(self, source: Buffer, target: Array, stream: Stream) -> None:
        """Enqueue a copy from the device; ``target`` is valid when it is done."""

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue an operation; None stands for an argument that is left out."""

    def close(self) -> None:
        """Finish all streams and release the resources of the device."""
