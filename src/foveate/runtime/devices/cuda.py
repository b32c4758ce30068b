# SPDX-License-Identifier: Apache-2.0
"""An NVIDIA GPU as a device, based on NVIDIA's packages ``cuda-core`` and ``cuda-bindings``.

Kernels are compiled for the GPU when they are first launched, kept in the user's cache, and loaded
from there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from foveate.errors import BackendError
from foveate.kernels.build import compile_kernels
from foveate.kernels.compilers import Compiler
from foveate.kernels.op import Launch, Op
from foveate.runtime.devices.cuda_context import CudaContext, Owned
from foveate.runtime.devices.cuda_memory import (
    CudaBuffer,
    CudaMirror,
    MappedMirror,
    cuda_buffer,
    pinned_array,
)
from foveate.runtime.devices.cuda_program import CudaProgram, Scratch
from foveate.runtime.devices.cuda_streams import CudaStream, cuda_stream
from foveate.runtime.devices.device import Buffer, Stream
from foveate.runtime.devices.interop import GpuArray, GpuImage, gpu_image, is_on_gpu


class CudaDevice:
    """Memory, streams and programs of one GPU.

    It is closed when the process ends, if not before.

    Args:
        number: Index of the GPU among those that are visible to CUDA.
        code: ``"cubin"`` compiles kernels for exactly this GPU; ``"ptx"`` leaves the last step to
            the driver, for a GPU that is newer than the compiler.
        debug: Whether to record no work and to wait for each kernel, so that the error of a GPU
            that stops names the kernel.
        compiler: Compiler of the kernels; by default NVRTC or nvcc.
        context: Context of the driver; by default the primary context of the GPU.

    Raises:
        MissingExtraError: ``cuda-core`` is not installed.
        BackendError: There is no driver or no such GPU.

    Attributes:
        context: Calls and resources of the driver.
        architecture: Compute capability of the GPU, such as ``sm_90``.
        memory_stream: Stream on which memory is allocated and freed.
    """

    name = "cuda"
    backends = ("tensorrt", "tensorrt-rtx", "onnxruntime")

    def __init__(
        self,
        number: int = 0,
        *,
        code: Literal["cubin", "ptx"] = "cubin",
        debug: bool = False,
        compiler: Compiler | None = None,
        context: CudaContext | None = None,
    ) -> None:
        self._code = code
        self._debug = debug
        self._compiler = compiler
        self.context = context or CudaContext(number)
        self.architecture = self.context.architecture
        self.memory_stream = CudaStream(self.context)
        self._libraries: list[Owned] = []
        self._module = cache(self._load)
        self._kernel = cache(self._find_kernel)
        self.launching = threading.local()

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CudaBuffer:
        """Return fresh memory, whose content is undefined; its address is a multiple of 256.

        All streams may use it at once. The work on it must be done when its last view dies.

        Raises:
            OutOfMemoryError: There is not enough memory.
        """
        size = max(prod(shape) * dtype.itemsize, 1)
        stream = self.memory_stream
        address = self.context.take("cuMemAllocAsync", size, stream.handle)
        owner = self.context.own(address, "cuMemFreeAsync", stream.handle)
        stream.synchronize()  # so that other streams need not wait for it
        return CudaBuffer(owner, owner.handle, shape, dtype)

    def mirror(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CudaMirror:
        """Return fresh memory of the GPU with page-locked memory of the CPU.

        Raises:
            OutOfMemoryError: There is not enough memory.
        """
        array = pinned_array(self.context, shape, dtype)
        return CudaMirror(self.context, array, self.allocate(shape, dtype))

    def mapped(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> MappedMirror:
        """Return page-locked memory of the CPU that kernels write directly.

        Raises:
            OutOfMemoryError: There is not enough memory.
        """
        array = pinned_array(self.context, shape, dtype)
        return MappedMirror(self.context, array)

    def stream(self) -> CudaStream:
        """Return a new stream, which does not synchronize with the legacy default stream."""
        self.context.use()
        self.context.collect()
        return CudaStream(self.context)

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        """Enqueue a copy between buffers of the same number of bytes."""
        given, taken = cuda_buffer(source), cuda_buffer(target)
        assert given.nbytes == taken.nbytes, f"{given} does not fit into {taken}"
        handle = cuda_stream(stream).handle
        self.context.call("cuMemcpyAsync", taken.address, given.address, taken.nbytes, handle)

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue an operation of a program; its kernels are loaded at the first launch.

        Raises:
            BackendError: The operation has no kernels, or they cannot be compiled.
            OptionError: A size is larger than the kernels can handle.
        """
        if op.launches is None:
            raise BackendError(
                f"the operation {op.name!r} has no GPU kernels",
                remedy="run it on the CPU: device='cpu'",
            )
        scratch = getattr(self.launching, "scratch", None)
        assert scratch is not None, f"{op.name} is launched outside of a program"
        for launch in op.launches(scratch, *buffers, **numbers):
            self._launch(self._kernel(op.source, launch.kernel), launch, cuda_stream(stream))

    def program(
        self, streams: Sequence[Stream], enqueue: Callable[[], None], *, capturable: bool
    ) -> CudaProgram:
        """Return a program, which owns the memory that its operations need in between."""
        self.context.use()
        self.context.collect()
        own = [cuda_stream(stream) for stream in streams]
        return CudaProgram(self, own, enqueue, capturable=capturable and not self._debug)

    def run_with(self, scratch: Scratch, enqueue: Callable[[], None]) -> None:
        """Enqueue work whose operations take their memory from ``scratch``."""
        self.launching.scratch = scratch
        try:
            enqueue()
        finally:
            del self.launching.scratch

    def accept(self, image: object) -> GpuImage | None:
        """Return an image of another library in the memory of this GPU; None for anything else.

        Raises:
            InputError: It is no image, or it lies in the memory of another GPU.
        """
        if not is_on_gpu(image):
            return None
        self.context.use()
        return gpu_image(image, self.context)

    def share(self, buffer: Buffer, owner: object) -> Any:
        """Return a complete result as an array for other libraries, which keeps ``owner`` alive."""
        return GpuArray(self.context, cuda_buffer(buffer), owner)

    def memory(self) -> tuple[int, int]:
        """Return the free bytes and all bytes of the GPU."""
        self.context.use()
        self.context.collect()
        free, total = self.context.call("cuMemGetInfo")
        return int(free), int(total)

    def close(self) -> None:
        """Finish all streams and release all resources; arrays of mirrors must not be used again."""
        self.context.close()

    def _launch(self, kernel: int, launch: Launch, stream: CudaStream) -> None:
        if self._debug:
            stream.synchronize()  # an error here is one of an engine or of a copy
            self.context.last_launch = launch.kernel
        self.context.launch(kernel, launch, stream.handle)
        if self._debug:
            stream.synchronize()
            self.context.last_launch = f"{launch.kernel}, which had ended"

    def _find_kernel(self, source: str, name: str) -> int:
        return int(self.context.call("cuLibraryGetKernel", self._module(source), name.encode()))

    def _load(self, source: str) -> int:
        """Compile a file of kernels, or take the code of an earlier compilation, and load it."""
        compiled = compile_kernels(
            Path(source), form=self._code, architecture=self.architecture, compiler=self._compiler
        )
        code = compiled.path.read_bytes() + b"\0"  # PTX is a text that ends with a zero
        library = self.context.call("cuLibraryLoadData", code, [], [], 0, [], [], 0)
        self._libraries.append(self.context.own(library, "cuLibraryUnload"))
        return int(library)
