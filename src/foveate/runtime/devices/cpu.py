# SPDX-License-Identifier: Apache-2.0
"""The host as a device: numpy memory, in-order streams of Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import cv2
import numpy as np

from foveate.errors import BackendError
from foveate.runtime.devices.cpu_streams import (
    CpuStream,
    Rule,
    Script,
    scripted_stream,
    threaded_stream,
)
from foveate.system.cores import usable_cores

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.kernels.op import Op
    from foveate.runtime.devices.device import Buffer, Stream


class CpuBuffer:
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

    def view(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CpuBuffer:
        """Return the beginning of this memory with another shape and dtype, without a copy."""
        size = prod(shape) * dtype.itemsize
        flat = self.array.reshape(-1).view(np.uint8)
        assert size <= flat.nbytes, f"{shape} {dtype} needs {size} bytes, {flat.nbytes} are here"
        return CpuBuffer(flat[:size].view(dtype).reshape(shape))

    def part(self, start: int, stop: int) -> CpuBuffer:
        """Return the rows ``start`` to ``stop`` of the first axis, without a copy."""
        return CpuBuffer(self.array[start:stop])

    def __repr__(self) -> str:
        return f"CpuBuffer({self.dtype}{list(self.shape)})"


class CpuDevice:
    """Memory, streams, copies and launches on the host.

    Args:
        rule: For tests: decides which stream makes the next step; see ``host_streams``. Without
            one, every stream has a thread of its own.
    """

    name = "cpu"

    def __init__(self, rule: Rule | None = None) -> None:
        self._script = None if rule is None else Script(rule)
        if cv2.getNumThreads() > usable_cores():  # OpenCV looks at some kinds of quotas only
            cv2.setNumThreads(usable_cores())

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CpuBuffer:
        """Return fresh memory, whose content is undefined.

        Raises:
            BackendError: There is not so much memory.
        """
        try:
            return CpuBuffer(np.empty(shape, dtype))
        except (MemoryError, ValueError) as error:  # the latter for sizes beyond any address
            raise BackendError(
                f"there is no memory for {prod(shape) * dtype.itemsize / 1e6:.0f} MB",
                remedy="use a smaller image, top_k or max_side, or a smaller max_in_flight",
            ) from error

    def stream(self) -> CpuStream:
        """Return a new stream."""
        if self._script is not None:
            return scripted_stream(self._script)
        return threaded_stream("foveate-stream")

    def upload(self, source: Array, target: Buffer, stream: Stream) -> None:
        """Enqueue a copy from the host; ``source`` must not change until it is done."""
        cpu_stream(stream).enqueue(np.copyto, cpu_array(target), source)

    def download(self, source: Buffer, target: Array, stream: Stream) -> None:
        """Enqueue a copy to the host; ``target`` is valid when it is done."""
        cpu_stream(stream).enqueue(np.copyto, target, cpu_array(source))

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer], **numbers: object
    ) -> None:
        """Enqueue an operation."""
        arrays = [
            [cpu_array(item) for item in buffer]
            if isinstance(buffer, Sequence)
            else cpu_array(buffer)
            for buffer in buffers
        ]
        cpu_stream(stream).enqueue(op.cpu, *arrays, **numbers)

    def close(self) -> None:
        """Do nothing: memory and threads end with their last user."""


def cpu_array(buffer: Buffer) -> Array:
    """Return the numpy array of a buffer of the host."""
    assert isinstance(buffer, CpuBuffer), f"{buffer!r} is not memory of the host"
    return buffer.array


def cpu_stream(stream: Stream) -> CpuStream:
    """Return a stream as one of the host."""
    assert isinstance(stream, CpuStream), f"{stream!r} is not a stream of the host"
    return stream
