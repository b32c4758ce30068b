# SPDX-License-Identifier: Apache-2.0
"""An NVIDIA GPU as a device, based on NVIDIA's package ``cuda-core``.

Kernels are compiled for the GPU when they are first launched, kept in the user's cache, and loaded
from there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from foveate.arrays import Array
from foveate.errors import BackendError, MissingExtraError
from foveate.kernels.build import compile_kernels
from foveate.kernels.compilers import Compiler
from foveate.kernels.op import Op
from foveate.runtime.devices.cuda_streams import CudaStream, cuda_stream, translate_errors
from foveate.runtime.devices.device import Buffer, Event, Stream


def load_driver() -> Any:
    """Return the module ``cuda.core``.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module("cuda.core")
    except ImportError as error:
        raise MissingExtraError("cuda.core", "cuda") from error


class CudaBuffer:
    """Memory of a GPU; views share the owner, which frees it when the last of them is gone.

    Args:
        owner: The ``cuda.core.Buffer``.
        offset: Bytes from the start of the owner.
        shape: Lengths of the axes; dense, in C order.
        dtype: Type of the elements.
    """

    def __init__(
        self, owner: Any, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> None:
        self._owner = owner
        self._offset = offset
        self.shape = shape
        self.dtype = dtype

    @property
    def address(self) -> int:
        """Address of the first byte."""
        return int(self._owner.handle) + self._offset

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
        viewed = CudaBuffer(self._owner, self._offset, shape, dtype)
        assert viewed.nbytes <= self.nbytes, f"{viewed} needs {viewed.nbytes} bytes, here: {self}"
        return viewed

    def part(self, start: int, stop: int) -> CudaBuffer:
        """Return the rows ``start`` to ``stop`` of the first axis, without a copy."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        row = prod(self.shape[1:]) * self.dtype.itemsize
        shape = (max(stop - start, 0), *self.shape[1:])
        return CudaBuffer(self._owner, self._offset + start * row, shape, self.dtype)

    def __repr__(self) -> str:
        return f"CudaBuffer({self.dtype}{list(self.shape)})"


class CudaMirror:
    """Memory of a GPU with a counterpart in the memory of the CPU."""

    def __init__(self, device: CudaDevice, buffer: CudaBuffer) -> None:
        self._device = device
        self.buffer = buffer
        self.array: Array = np.empty(buffer.shape, buffer.dtype)

    def send(self, stream: Stream) -> None:
        """Enqueue a copy to the device; the array must not change until it is done."""
        self._device.send(self.array, self.buffer, stream)

    def fetch(self, stream: Stream) -> None:
        """Enqueue a copy from the device; the array is valid when it is done."""
        self._device.fetch(self.buffer, self.array, stream)


class CudaProgram:
    """A program of a GPU, whose launches enqueue the work anew."""

    def __init__(self, streams: Sequence[Stream], enqueue: Callable[[], None]) -> None:
        self._streams = streams
        self._enqueue = enqueue

    def launch(self) -> Event:
        """Enqueue the work once, and return the event at its end."""
        self._enqueue()
        return self._streams[0].record()


class CudaDevice:
    """Memory, streams, copies and launches on one GPU.

    Args:
        number: Index of the GPU among those that are visible to CUDA.
        code: ``"cubin"`` compiles kernels for exactly this GPU; ``"ptx"`` leaves the last step to
            the driver, for a GPU that is newer than the compiler.
        driver: The module ``cuda.core``, or an object with the same names that executes kernels in
            another way, as in the tests.
        compiler: Compiler of the kernels; by default nvcc or NVRTC.

    Raises:
        MissingExtraError: ``cuda-core`` is not installed.
        BackendError: There is no driver or no such GPU.
    """

    name = "cuda"

    def __init__(
        self,
        number: int = 0,
        *,
        code: Literal["cubin", "ptx"] = "cubin",
        driver: Any = None,
        compiler: Compiler | None = None,
    ) -> None:
        self._driver = load_driver() if driver is None else driver
        self._code = code
        self._compiler = compiler
        with translate_errors(f"the GPU {number} cannot be used"):
            self._device = self._driver.Device(number)
            self._device.set_current()
            self.architecture = f"sm_{self._device.arch}"
        self._module = cache(self._load)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CudaBuffer:
        """Return fresh memory, whose content is undefined."""
        # The legacy default stream waits for all our streams, which are blocking ones, and they
        # wait for it. So memory can be used on any stream immediately, and freed memory is reused
        # only after the work that was enqueued before.
        return self._allocate(shape, dtype, self._driver.LEGACY_DEFAULT_STREAM)

    def allocate_on(
        self, stream: Stream, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> CudaBuffer:
        """Return fresh memory that is allocated and freed in the order of a stream."""
        return self._allocate(shape, dtype, cuda_stream(stream).stream)

    def stream(self) -> CudaStream:
        """Return a new stream."""
        with self._using("no stream"):
            options = self._driver.StreamOptions(nonblocking=False)
            return CudaStream(self._driver, self._device.create_stream(options=options))

    def mirror(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CudaMirror:
        """Return fresh memory with a counterpart in the memory of the CPU."""
        return CudaMirror(self, self.allocate(shape, dtype))

    def mapped(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CudaMirror:
        """Return fresh memory with a counterpart in the memory of the CPU."""
        return self.mirror(shape, dtype)

    def program(
        self, streams: Sequence[Stream], enqueue: Callable[[], None], *, capturable: bool
    ) -> CudaProgram:
        """Return a program whose launches call ``enqueue``."""
        del capturable
        return CudaProgram(streams, enqueue)

    def spare_bytes(self) -> None:
        """Return None: a slot is released before another one is made."""

    def send(self, source: Array, target: CudaBuffer, stream: Stream) -> None:
        """Enqueue a copy from the CPU; ``source`` must not change until it is done."""
        self._copy(_host_buffer(self._driver, source), _part_of(self._driver, target), stream)

    def fetch(self, source: CudaBuffer, target: Array, stream: Stream) -> None:
        """Enqueue a copy to the CPU; ``target`` is valid when it is done."""
        self._copy(_part_of(self._driver, source), _host_buffer(self._driver, target), stream)

    def copy(self, source: CudaBuffer, target: CudaBuffer, stream: Stream) -> None:
        """Enqueue a copy between buffers of the same number of bytes."""
        self._copy(_part_of(self._driver, source), _part_of(self._driver, target), stream)

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue an operation; its kernels are compiled and loaded at the first launch.

        Raises:
            BackendError: The operation has no kernels, or they cannot be compiled.
            OptionError: A size is larger than the kernels can handle.
        """
        if op.launches is None:
            raise BackendError(
                f"the operation {op.name!r} has no GPU kernels",
                remedy="run it on the CPU: device='cpu'",
            )
        for launch in op.launches(_StreamMemory(self, stream), *buffers, **numbers):
            kernel = self._module(op.source).get_kernel(launch.kernel)
            with self._using(f"{op.name} cannot be launched"):
                config = self._driver.LaunchConfig(
                    grid=launch.blocks, block=(launch.block, 1, 1), shmem_size=launch.shared_bytes
                )
                self._driver.launch(cuda_stream(stream).stream, config, kernel, *launch.numbers)

    def close(self) -> None:
        """Finish all streams and release the resources of the device."""
        with translate_errors("the GPU stopped"):
            self._device.sync()
        self._module.cache_clear()

    @contextmanager
    def _using(self, what: str) -> Iterator[None]:
        """Make the GPU current in this thread, and translate errors of the driver."""
        with translate_errors(what):
            self._device.set_current()
            yield

    def _load(self, source: str) -> Any:
        """Compile a file of kernels, or take the code of an earlier compilation, and load it."""
        compiled = compile_kernels(
            Path(source), form=self._code, architecture=self.architecture, compiler=self._compiler
        )
        name = Path(source).stem
        with self._using(f"{source} cannot be loaded"):
            code = compiled.path.read_bytes()
            if compiled.form == "ptx":  # also where the compiler does not know the architecture
                return self._driver.ObjectCode.from_ptx(code, name=name)
            return self._driver.ObjectCode.from_cubin(code, name=name)

    def _allocate(
        self, shape: tuple[int, ...], dtype: np.dtype[np.generic], stream: Any
    ) -> CudaBuffer:
        size = prod(shape) * dtype.itemsize
        with self._using(f"no {size} bytes of memory on the GPU"):
            owner = self._device.allocate(max(size, 1), stream=stream)
        return CudaBuffer(owner, 0, shape, dtype)

    def _copy(self, source: Any, target: Any, stream: Stream) -> None:
        if source.size:
            with self._using("a copy failed"):
                target.copy_from(source, stream=cuda_stream(stream).stream)


class _StreamMemory:
    """Memory of one call, which is allocated and freed in the order of its stream."""

    def __init__(self, device: CudaDevice, stream: Stream) -> None:
        self._device = device
        self._stream = stream

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> CudaBuffer:
        return self._device.allocate_on(self._stream, shape, np.dtype(dtype))

    def upload(self, array: Array) -> CudaBuffer:
        buffer = self._device.allocate_on(self._stream, array.shape, array.dtype)
        self._device.send(array, buffer, self._stream)
        cuda_stream(self._stream).keep(array)
        return buffer


def _host_buffer(driver: Any, array: Array) -> Any:
    return driver.Buffer.from_handle(array.ctypes.data, array.nbytes, owner=array)


def _part_of(driver: Any, buffer: Buffer) -> Any:
    """Return a driver buffer of exactly the bytes of a buffer."""
    assert isinstance(buffer, CudaBuffer), f"{buffer!r} is not memory of the GPU"
    return driver.Buffer.from_handle(buffer.address, buffer.nbytes, owner=buffer)
