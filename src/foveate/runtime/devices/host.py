# SPDX-License-Identifier: Apache-2.0
"""The host as a device: numpy memory, in-order streams of Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import cv2
import numpy as np

from foveate.cores import usable_cores
from foveate.errors import BackendError
from foveate.runtime.devices.host_streams import (
    HostStream,
    Rule,
    Script,
    scripted_stream,
    threaded_stream,
)

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.kernels.op import Op
    from foveate.runtime.devices.device import Buffer, Stream

__all__ = ["HostBuffer", "HostDevice", "HostStream", "host_array", "host_stream"]


class HostBuffer:
    """Memory of the host.

    Args:
        array: The memory, as a numpy array in C order; shared, not copied.
    """

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Kind of the elements."""
        return self.array.dtype

    def view(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> HostBuffer:
        """Return the beginning of this memory with another shape and dtype, without a copy."""
        size = prod(shape) * dtype.itemsize
        flat = self.array.reshape(-1).view(np.uint8)
        assert size <= flat.nbytes, f"{shape} {dtype} needs {size} bytes, {flat.nbytes} are here"
        return HostBuffer(flat[:size].view(dtype).reshape(shape))

    def part(self, start: int, stop: int) -> HostBuffer:
        """Return the rows ``start`` to ``stop`` of the first axis, without a copy."""
        return HostBuffer(self.array[start:stop])

    def __repr__(self) -> str:
        return f"HostBuffer({self.dtype}{list(self.shape)})"


class HostDevice:
    """Memory, streams, copies and launches on the host.

    Args:
        rule: For tests: decides which stream makes the next step; see ``host_streams``. Without
            one, every stream has a thread of its own.
    """

    name = "host"

    def __init__(self, rule: Rule | None = None) -> None:
        self._script = None if rule is None else Script(rule)
        if cv2.getNumThreads() > usable_cores():  # OpenCV looks at some kinds of quotas only
            cv2.setNumThreads(usable_cores())

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> HostBuffer:
        """Return fresh memory, whose content is undefined.

        Raises:
            BackendError: There is not so much memory.
        """
        try:
            return HostBuffer(np.empty(shape, dtype))
        except (MemoryError, ValueError) as error:  # the latter for sizes beyond any address
            raise BackendError(
                f"there is no memory for {prod(shape) * dtype.itemsize / 1e6:.0f} MB",
                remedy="use a smaller picture, top_k or max_side, or fewer slots",
            ) from error

    def stream(self) -> HostStream:
        """Return a new stream."""
        if self._script is not None:
            return scripted_stream(self._script)
        return threaded_stream("foveate-stream")

    def upload(self, source: Array, target: Buffer, stream: Stream) -> None:
        """Enqueue a copy from the host; ``source`` must not change until it is done."""
        host_stream(stream).enqueue(np.copyto, host_array(target), source)

    def download(self, source: Buffer, target: Array, stream: Stream) -> None:
        """Enqueue a copy to the host; ``target`` is valid when it is done."""
        host_stream(stream).enqueue(np.copyto, target, host_array(source))

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer], **numbers: object
    ) -> None:
        """Enqueue an operation."""
        arrays = [
            [host_array(item) for item in buffer]
            if isinstance(buffer, Sequence)
            else host_array(buffer)
            for buffer in buffers
        ]
        host_stream(stream).enqueue(op.host, *arrays, **numbers)

    def close(self) -> None:
        """Do nothing: memory and threads end with their last user."""


def host_array(buffer: Buffer) -> Array:
    """Return the numpy array of a buffer of the host."""
    assert isinstance(buffer, HostBuffer), f"{buffer!r} is not memory of the host"
    return buffer.array


def host_stream(stream: Stream) -> HostStream:
    """Return a stream as one of the host."""
    assert isinstance(stream, HostStream), f"{stream!r} is not a stream of the host"
    return stream
