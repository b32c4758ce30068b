# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries in the memory of a GPU: images that come in, and results that go out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Any, Protocol

from foveate.errors import FoveateError, InputError
from foveate.runtime.devices.cuda_memory import cuda_buffer
from foveate.runtime.devices.cuda_streams import CudaEvent, cuda_stream
from foveate.system import dlpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from foveate.runtime.devices.cuda_context import CudaContext
    from foveate.runtime.devices.cuda_memory import CudaBuffer
    from foveate.runtime.devices.device import Buffer, Stream

_LEGACY_STREAM = 1  # as CUDA, DLPack and the CUDA array interface number it
_IN_MEMORY_OF_GPU = 2  # a value of CUmemorytype


class SupportsDlpack(Protocol):
    """An array of PyTorch, CuPy, JAX or another library with DLPack."""

    def __dlpack_device__(self) -> tuple[Any, int]:
        """Return type and number of the device."""


class SupportsCudaArray(Protocol):
    """An array of PyCUDA, Numba or another library with the CUDA array interface."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array."""


@dataclass(frozen=True, kw_only=True)
class GpuImage:
    """An image in the memory of a GPU, which belongs to another library.

    Args:
        value: The array of the other library.
        address: Address of the first byte.
        shape: (H, W, 3); uint8 RGB, with dense rows.
        pitch: Bytes from the start of a row to that of the next one.
        context: The context of the pipeline.
    """

    value: Any
    address: int
    shape: tuple[int, int, int]
    pitch: int
    context: CudaContext

    def part(self, top: int, left: int, height: int, width: int) -> GpuImage:
        """Return the part of this image that begins at (left, top), without a copy."""
        address = self.address + top * self.pitch + 3 * left
        return replace(self, address=address, shape=(height, width, 3))

    def copy_to(self, target: Buffer, stream: Stream) -> object:
        """Enqueue a copy, after the work that made the image.

        Returns:
            An object that must live until the copy is done.
        """
        self.context.use()
        handle = cuda_stream(stream).handle
        kept = _export(self.value, handle) if has_dlpack(self.value) else self._order(stream)
        copy = self.context.driver.CUDA_MEMCPY2D()
        kind = self.context.driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcMemoryType = copy.dstMemoryType = kind
        copy.srcDevice, copy.dstDevice = self.address, cuda_buffer(target).address
        copy.srcPitch, copy.dstPitch = self.pitch, 3 * self.shape[1]
        copy.WidthInBytes, copy.Height = copy.dstPitch, self.shape[0]
        self.context.call("cuMemcpy2DAsync", copy, handle)
        return kept

    def _order(self, stream: Stream) -> object:
        """Order a stream after the one that the CUDA array interface names."""
        # Without a stream, the interface asks for no order; the producer may still have used the
        # legacy stream, as PyCUDA does.
        producer = self.value.__cuda_array_interface__.get("stream") or _LEGACY_STREAM
        event = CudaEvent(self.context)
        self.context.call("cuEventRecord", event.handle, int(producer))
        stream.wait(event)
        return self.value, event


def has_dlpack(value: Any) -> bool:
    """Return whether an array is exchanged by DLPack, rather than by the CUDA array interface."""
    return hasattr(type(value), "__dlpack_device__")


def is_on_gpu(value: Any) -> bool:
    """Return whether an object is an array that claims to lie in the memory of a GPU."""
    with _sharing():
        if has_dlpack(value):
            return bool(value.__dlpack_device__()[0] == dlpack.CUDA)
        return hasattr(value, "__cuda_array_interface__")


def gpu_image(value: Any, context: CudaContext) -> GpuImage:
    """Check an array in the memory of a GPU.

    Raises:
        InputError: It is no image, or it lies elsewhere.
    """
    with _sharing():
        found = _described(value)
    in_c_order = tuple(accumulate(found.shape[:0:-1], mul, initial=1))[::-1]
    dense = found.strides in (None, in_c_order)
    if found.dtype != "uint8" or len(found.shape) != 3 or found.shape[2] != 3 or not dense:
        layout = "" if dense else f" and strides {found.strides}"
        raise InputError(
            "an image must be a dense uint8 array of shape (H, W, 3) in RGB order, "
            f"found {found.dtype} of shape {found.shape}{layout}",
            remedy="convert it on the GPU, for example by contiguous() of PyTorch",
        )
    if 0 in found.shape:
        raise InputError(
            f"an image needs at least one pixel, found shape {found.shape}", remedy="leave it out"
        )
    _check_place(found.address, context)
    height, width, _ = found.shape
    shape = (height, width, 3)
    return GpuImage(
        value=value, address=found.address, shape=shape, pitch=3 * width, context=context
    )


def _described(value: Any) -> dlpack.Array:
    if not has_dlpack(value):
        interface = value.__cuda_array_interface__
        typestr, strides = interface["typestr"], interface.get("strides")
        size = int(typestr[2:])
        kind = {"u": "uint", "i": "int", "f": "float"}.get(typestr[1], typestr[1])
        return dlpack.Array(
            address=int(interface["data"][0] or 0),
            shape=tuple(interface["shape"]),
            strides=None if strides is None else tuple(step // size for step in strides),
            dtype=f"{kind}{8 * size}",
        )
    # Nothing is read yet, so that no order is needed; but JAX takes -1, which asks for none, as the
    # handle of a stream.
    return dlpack.read(_export(value, _LEGACY_STREAM))


def _export(value: Any, stream: int) -> object:
    """Return the capsule of an array, ordered before the work that ``stream`` gets from now on."""
    with _sharing():
        return value.__dlpack__(stream=stream)


@contextmanager
def _sharing() -> Iterator[None]:
    """Raise InputError for an array that cannot be described or shared, such as a deleted one."""
    try:
        yield
    except FoveateError:
        raise
    except Exception as error:  # every library has kinds of its own
        raise InputError(
            f"the image in the memory of the GPU cannot be shared: {error}",
            remedy="pass an array that exists, without gradients, that no other library writes",
        ) from error


def _check_place(address: int, context: CudaContext) -> None:
    kinds = context.driver.CUpointer_attribute
    wanted = [kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, kinds.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL]
    memory, number = context.call("cuPointerGetAttributes", len(wanted), wanted, address)
    if int(memory) != _IN_MEMORY_OF_GPU:
        raise InputError(
            "the image is freed or does not lie in the memory of a GPU",
            remedy="keep it until its detections are there",
        )
    if int(number) != context.number:
        raise InputError(
            f"the image lies in the memory of the GPU {int(number)}, expected {context.number}",
            remedy="copy it there, or load the pipeline on its GPU",
        )


class GpuArray:
    """A result in the memory of a GPU, complete, for PyTorch, CuPy, Numba and others.

    It keeps the memory of its image from being used again until the last array on it is dropped.

    Args:
        context: The context of the memory.
        buffer: The memory.
        owner: What must live as long as the array.
    """

    def __init__(self, context: CudaContext, buffer: CudaBuffer, owner: object) -> None:
        self._context = context
        self._buffer = buffer
        self._owner = owner
        self.shape = buffer.shape
        self.dtype: np.dtype[np.generic] = buffer.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array for libraries without DLPack."""
        self._context.check_usable()
        return self._buffer.__cuda_array_interface__

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return type and number of the device."""
        return dlpack.CUDA, self._context.number

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> object:
        """Return a capsule; ``stream`` needs no order, since the result is complete."""
        del stream
        if options.get("copy") or options.get("dl_device") not in (None, self.__dlpack_device__()):
            raise BufferError("the array is shared as it is: without a copy, on its own GPU")
        self._context.check_usable()
        buffer = self._buffer
        device = self.__dlpack_device__()
        return dlpack.write(buffer.address, buffer.shape, buffer.dtype, device, self)

    def __repr__(self) -> str:
        return f"GpuArray({self.dtype}{list(self.shape)})"
