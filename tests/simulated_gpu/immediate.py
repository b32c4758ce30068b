# SPDX-License-Identifier: Apache-2.0
"""The context of a GPU that is not there, where all work is done at once and nothing is recorded.

A subclass supplies memory and kernels. It gets the arguments of a launch with their widths, which
the real call does not carry, so that it can compare them with the parameters of the kernel.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

from foveate.errors import BackendError
from foveate.kernels.op import Launch
from foveate.runtime.devices.cuda_context import CudaContext

Kernel = Callable[[Launch], None]

_IGNORED = {
    "cuCtxSetCurrent",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuStreamDestroy",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuEventDestroy",
    "cuLibraryUnload",
}


class ImmediateContext(CudaContext):
    """The calls of the driver that our device makes.

    Args:
        architecture: Architecture as "sm_75".
    """

    def __init__(self, architecture: str) -> None:
        self._architecture = architecture
        self._handles = itertools.count(1)
        self._pinned: dict[int, Any] = {}
        self._libraries: dict[int, bytes] = {}
        self._kernels: dict[int, Kernel] = {}
        super().__init__()

    def allocate(self, size: int) -> int:
        """Return the address of memory whose content is poisoned."""
        raise NotImplementedError

    def free(self, address: int) -> None:
        """Free memory."""
        raise NotImplementedError

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes between memory of the CPU and of the GPU."""
        raise NotImplementedError

    def find(self, code: bytes, name: str) -> Kernel:
        """Return a kernel of a file of code."""
        raise NotImplementedError

    def _open(self) -> tuple[str, int]:
        return self._architecture, 0

    def call(self, name: str, *arguments: Any) -> Any:
        """Do what the driver does."""
        self.check_usable()
        if name in _IGNORED:
            return 0
        calls: dict[str, Callable[..., Any]] = {
            "cuStreamCreate": self._new,
            "cuEventCreate": self._new,
            "cuMemAllocAsync": lambda size, _: self.allocate(size),
            "cuMemFreeAsync": lambda address, _: self.free(address),
            "cuMemHostAlloc": self._pin,
            "cuMemFreeHost": self._pinned.pop,
            "cuMemcpyAsync": lambda target, source, size, _: self.copy(target, source, size),
            "cuLibraryLoadData": self._load,
            "cuLibraryGetKernel": self._kernel,
        }
        return calls[name](*arguments)

    def launch(self, kernel: int, launch: Launch, stream: int) -> None:
        """Run a kernel to its end."""
        assert stream
        self._kernels[kernel](launch)

    def begin_capture(self, stream: int) -> None:
        """Refuse, so that everything is enqueued by each launch."""
        raise BackendError(f"the stream {stream} cannot be recorded here")

    def _new(self, *_: Any) -> int:
        return next(self._handles)

    def _pin(self, size: int, flags: int) -> int:
        assert flags
        memory = ctypes.create_string_buffer(size)
        self._pinned[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def _load(self, code: bytes, *_: Any) -> int:
        assert code.endswith(b"\0")
        handle = next(self._handles)
        self._libraries[handle] = code[:-1]
        return handle

    def _kernel(self, library: int, name: bytes) -> int:
        handle = next(self._handles)
        self._kernels[handle] = self.find(self._libraries[library], name.decode())
        return handle
