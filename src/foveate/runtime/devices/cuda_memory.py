# SPDX-License-Identifier: Apache-2.0
"""Memory of an NVIDIA GPU, and page-locked memory of the CPU."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.runtime.devices.cuda_streams import cuda_stream

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.runtime.devices.cuda_context import CudaContext, Owned
    from foveate.runtime.devices.device import Buffer, Stream

_PORTABLE_AND_MAPPED = 3  # flags of cuMemHostAlloc


class CudaBuffer:
    """Memory that kernels can use; a view keeps the owner of the memory alive.

    Work on the memory must be done when the last view dies, or when the device is closed.

    Args:
        owner: What keeps the memory alive.
        address: Address of the first byte.
        shape: Lengths of the axes; dense, in C order.
        dtype: Type of the elements.
    """

    def __init__(
        self, owner: object, address: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> None:
        self._owner = owner
        self.address = address
        self.shape = shape
        self.dtype = dtype

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array for CuPy, PyTorch or Numba, which must order their work after ours."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "version": 3,
        }

    def view(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CudaBuffer:
        """Return the beginning of this memory with another shape and dtype, without a copy."""
        viewed = CudaBuffer(self._owner, self.address, shape, dtype)
        assert viewed.nbytes <= self.nbytes, f"{viewed} needs {viewed.nbytes} bytes, here: {self}"
        return viewed

    def part(self, start: int, stop: int) -> CudaBuffer:
        """Return the rows ``start`` to ``stop`` of the first axis, without a copy."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        row = prod(self.shape[1:]) * self.dtype.itemsize
        shape = (max(stop - start, 0), *self.shape[1:])
        return CudaBuffer(self._owner, self.address + start * row, shape, self.dtype)

    def __repr__(self) -> str:
        return f"CudaBuffer({self.dtype}{list(self.shape)})"


class _Bytes:
    """Page-locked memory as NumPy takes it; the arrays keep its owner alive."""

    def __init__(self, owner: Owned, size: int) -> None:
        self._owner = owner
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (owner.handle, False),
            "version": 3,
        }


def pinned_array(
    context: CudaContext, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> Array:
    """Return an array in page-locked memory, valid until the device is closed.

    Raises:
        OutOfMemoryError: There is not enough memory.
    """
    size = prod(shape) * dtype.itemsize
    address = context.take("cuMemHostAlloc", max(size, 1), _PORTABLE_AND_MAPPED)
    owner = context.own(address, "cuMemFreeHost")
    return np.asarray(_Bytes(owner, size)).view(dtype).reshape(shape)


class CudaMirror:
    """Memory of a GPU with page-locked memory; see :class:`foveate.runtime.devices.Mirror`.

    Args:
        context: The context of the memory.
        array: Page-locked memory.
        buffer: Memory of the GPU, with the same shape and dtype.
    """

    def __init__(self, context: CudaContext, array: Array, buffer: CudaBuffer) -> None:
        self.array = array
        self.buffer = buffer
        self._context = context

    def send(self, stream: Stream, content: Array | None = None) -> None:
        """Enqueue a copy to the GPU, and make its context current; an image begins with this."""
        self._context.use()  # before a write: the array is gone if its context was destroyed
        if content is not None:
            np.copyto(self.array, content)
        self._copy(self.buffer.address, self.array.ctypes.data, stream)

    def fetch(self, stream: Stream) -> None:
        """Enqueue a copy from the GPU; the array is valid when it is done."""
        self._copy(self.array.ctypes.data, self.buffer.address, stream)

    def _copy(self, target: int, source: int, stream: Stream) -> None:
        if self.array.nbytes:
            handle = cuda_stream(stream).handle
            self._context.call("cuMemcpyAsync", target, source, self.array.nbytes, handle)


class MappedMirror:
    """Page-locked memory that kernels write; see :class:`foveate.runtime.devices.Mirror`.

    Args:
        context: The context of the memory.
        array: Page-locked memory.
    """

    def __init__(self, context: CudaContext, array: Array) -> None:
        self.array = array
        address = int(context.call("cuMemHostGetDevicePointer", array.ctypes.data, 0))
        self.buffer = CudaBuffer(array, address, array.shape, array.dtype)

    def send(self, stream: Stream, content: Array | None = None) -> None:
        """Write the content, if given; nothing else is copied."""
        del stream
        if content is not None:
            np.copyto(self.array, content)

    def fetch(self, stream: Stream) -> None:
        """Do nothing, since nothing is copied."""


def cuda_buffer(buffer: Buffer) -> CudaBuffer:
    """Return a buffer as memory of the GPU."""
    assert isinstance(buffer, CudaBuffer), f"{buffer!r} is not memory of the GPU"
    return buffer
