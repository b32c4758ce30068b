# SPDX-License-Identifier: Apache-2.0
"""The GPU of a program that uses PyCUDA: our work goes into the context of the caller.

No context is created, made current or destroyed. Everything else is as in :mod:`.cuda`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from foveate.errors import BackendError
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_context import CudaContext, load_module
from foveate.runtime.devices.cuda_memory import cuda_buffer

if TYPE_CHECKING:
    from foveate.kernels.compilers import Compiler
    from foveate.runtime.devices.device import Buffer


class BorrowedContext(CudaContext):
    """The context that is current in the thread that opens the device.

    The caller keeps it current in every thread that uses the device, until the device is closed.

    Raises:
        MissingExtraError: PyCUDA or ``cuda-bindings`` is not installed.
        BackendError: No context is current.
    """

    def _open(self) -> tuple[str, int]:
        cuda = load_module("pycuda.driver", "pycuda")
        self.driver = load_module("cuda.bindings.driver", "pycuda")
        _, handle = self.driver.cuCtxGetCurrent()  # fails if PyCUDA is not initialized
        if not handle or not int(handle):
            raise BackendError(
                "no context of PyCUDA is current in this thread",
                remedy="import pycuda.autoinit, or push a context, before you load the pipeline",
            )
        self.number = int(self.call("cuCtxGetDevice"))
        major, minor = cuda.Context.get_device().compute_capability()
        return f"sm_{major}{minor}", int(handle)

    def use(self) -> None:
        """Check that the context is current in this thread."""
        found = int(self.call("cuCtxGetCurrent"))
        if found != self._handle:
            raise BackendError(
                "the context in which the pipeline was loaded is destroyed or not current in this "
                f"thread: expected {self._handle:#x}, found {found:#x}",
                remedy="push it before you use the pipeline, and close the pipeline before you "
                "destroy it",
            )


class PycudaDevice(CudaDevice):
    """The GPU of the context that is current in this thread.

    Args:
        code: See :class:`foveate.runtime.devices.cuda.CudaDevice`.
        debug: See there.
        compiler: See there.

    Raises:
        MissingExtraError: PyCUDA or ``cuda-bindings`` is not installed.
        BackendError: No context is current.
    """

    name = "pycuda"

    def __init__(
        self,
        *,
        code: Literal["cubin", "ptx"] = "cubin",
        debug: bool = False,
        compiler: Compiler | None = None,
    ) -> None:
        super().__init__(code=code, debug=debug, compiler=compiler, context=BorrowedContext())

    def share(self, buffer: Buffer, owner: object) -> Any:
        """Return a buffer as a ``pycuda.gpuarray.GPUArray``, which keeps ``owner`` alive."""
        shared = cuda_buffer(buffer)
        gpuarray = load_module("pycuda.gpuarray", "pycuda")
        return gpuarray.GPUArray(
            shared.shape, shared.dtype, base=(shared, owner), gpudata=shared.address
        )
