# SPDX-License-Identifier: Apache-2.0
"""A context of the CUDA driver: its calls with their errors, and its resources with their owners.

The GPU is opened by ``cuda-core``. Everything else is called through ``cuda-bindings``, so that one
place sees the status of every call, and an image costs no call but those that are made here.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import weakref
from collections import deque
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from foveate.errors import BackendError, MissingExtraError, OutOfMemoryError
from foveate.system.gpu import check_bindings

if TYPE_CHECKING:
    from foveate.kernels.op import Launch

_OUT_OF_MEMORY, _DESTROYED_CONTEXT = 2, 709
# What calls return if no context, or another one, is current in this thread.
_NOT_CURRENT = (201, 400)
# After these, the driver refuses all further work of the process.
_STICKY = {214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 911}
_REMEDY = "`foveate doctor` shows what works here; device='cpu' needs no GPU"


@cache
def load_module(name: str, extra: str = "cuda") -> Any:
    """Return a module of an optional dependency.

    Raises:
        MissingExtraError: It is not installed.
        BackendError: It is installed, but a library that it needs is not.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(name, extra) from error
    except ImportError as error:  # as PyCUDA raises it on a machine without a driver
        raise BackendError(
            f"the module {name!r} does not load ({error})", remedy=_REMEDY
        ) from error


class Owned:
    """A resource of the driver, released after it is collected, or when its context is closed.

    An object may die in any thread and at any moment, such as in the middle of a capture. Its death
    is therefore only noted; the context makes the call when it is next asked for a resource.

    Args:
        context: The context of the resource.
        handle: Handle or address of the resource.
        release: Name and arguments of the call that releases it.
    """

    def __init__(self, context: CudaContext, handle: int, release: tuple[Any, ...]) -> None:
        self.handle = handle
        self._context = context
        self._release = release
        context.alive[release] = None

    def __del__(self) -> None:
        self._context.dropped.append(self._release)


class CudaContext:
    """The primary context of a GPU, which PyTorch and other libraries use too.

    Args:
        number: Index of the GPU among those that are visible to CUDA.

    Raises:
        MissingExtraError: ``cuda-core`` is not installed.
        BackendError: There is no driver or no such GPU.

    Attributes:
        driver: The module ``cuda.bindings.driver``.
        architecture: Compute capability of the GPU, such as ``sm_90``.
        number: Index of the GPU.
        alive: The calls that release the resources that are alive, the oldest first.
        dropped: Those of them whose resource no object owns any longer.
        last_launch: Name of the last kernel, if the end of every launch is waited for.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.alive: dict[tuple[Any, ...], None] = {}
        self.dropped: deque[tuple[Any, ...]] = deque()
        self.last_launch: str | None = None
        self._unusable: tuple[str, str] | None = None  # what an error would state, and the remedy
        self._process = os.getpid()
        self.driver: Any = None
        self.architecture, self._handle = self._open()
        _contexts.add(self)

    def _open(self) -> tuple[str, int]:
        """Load the driver; return the architecture of the GPU and the handle of the context."""
        self.driver = load_module("cuda.bindings.driver")
        core = load_module("cuda.core")
        check_bindings(load_module("cuda.bindings").__version__)
        try:
            device = core.Device(self.number)
            device.set_current()
            return f"sm_{device.arch}", int(device.context.handle)
        except Exception as error:  # without a driver or this GPU, cuda-core raises many kinds
            raise BackendError(
                f"the GPU {self.number} cannot be used ({str(error).rstrip('.')})", remedy=_REMEDY
            ) from error

    def use(self) -> None:
        """Make the context current in this thread; another library may have changed it."""
        self.call("cuCtxSetCurrent", self._handle)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the driver, and return its result.

        Raises:
            OutOfMemoryError: There is not enough memory.
            BackendError: The driver refused the call, or the GPU stopped.
        """
        self.check_usable()
        status, *results = self._try(name, *arguments)
        if int(status) in _NOT_CURRENT and not name.startswith("cuCtx"):
            self.use()  # this thread has not used the GPU yet, or has used it in another context
            status, *results = self._try(name, *arguments)
        if int(status):
            self._fail(name, status)
        return results[0] if len(results) == 1 else tuple(results)

    def _try(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        try:
            return tuple(getattr(self.driver, name)(*arguments))
        except RuntimeError as error:  # cuda-bindings does not find the function in the driver
            raise BackendError(
                f"the driver has no function {name}: {error}", remedy="update the NVIDIA driver"
            ) from error

    def take(self, name: str, *arguments: Any) -> Any:
        """Call a function that takes memory, after the release of what no object owns.

        Raises:
            OutOfMemoryError: There is not enough memory.
        """
        self.use()
        self.collect()
        try:
            return self.call(name, *arguments)
        except OutOfMemoryError:
            gc.collect()  # memory that only a cycle of objects keeps alive
            self.collect()
            return self.call(name, *arguments)

    def launch(self, kernel: int, launch: Launch, stream: int) -> None:
        """Launch a kernel on a stream; both are handles."""
        numbers = [np.array(number) for number in launch.numbers]
        pointers = np.array([number.ctypes.data for number in numbers], np.uint64)
        grid, block = launch.blocks, (launch.block, 1, 1)
        arguments = (launch.shared_bytes, stream, pointers.ctypes.data, 0)
        self.call("cuLaunchKernel", kernel, *grid, *block, *arguments)

    def begin_capture(self, stream: int) -> None:
        """Record what is enqueued on a stream from now on, instead of running it."""
        # In the mode "global", a call such as cuMemAlloc by another thread would break the capture.
        # In the mode "relaxed", an engine that allocates in this thread would go unnoticed.
        mode = self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self.call("cuStreamBeginCapture", stream, mode)

    def own(self, handle: Any, release: str, *more: Any) -> Owned:
        """Return the owner of a resource; ``release`` is called with the handle and ``more``."""
        return Owned(self, int(handle), (release, int(handle), *more))

    def collect(self) -> None:
        """Release the resources that no object owns any longer; the work on them must be done."""
        while True:
            try:
                release = self.dropped.popleft()
            except IndexError:  # nothing is left, perhaps since another thread took it
                return
            try:
                self._release(release)
            except BackendError:
                self.dropped.append(release)  # for the next attempt
                raise

    def close(self) -> None:
        """Finish all streams and release all resources, the newest first.

        In a forked child nothing is released, because everything belongs to the parent.
        """
        if self._unusable or os.getpid() != self._process:
            return
        if self.alive:
            with suppress(BackendError):  # the context is gone, and with it everything in it
                self.use()
                self._release_all()
        self._unusable = ("the device is closed", "open it again")

    def _release_all(self) -> None:
        for name, handle, *_ in list(self.alive):
            if name == "cuStreamDestroy":
                with suppress(BackendError):
                    self.call("cuStreamSynchronize", handle)
        for release in reversed(list(self.alive)):
            for _ in range(2):  # a refused release is tried once more
                with suppress(BackendError):
                    self._release(release)

    def __del__(self) -> None:
        self.close()

    def _release(self, release: tuple[Any, ...]) -> None:
        try:
            # Before the call, after which another thread may get the address.
            del self.alive[release]
        except KeyError:  # another thread releases it
            return
        name, handle, *more = release
        try:
            if name == "cuStreamDestroy":
                self.call("cuStreamSynchronize", handle)
            self.call(*release)
        except BackendError:
            self.alive[release] = None
            raise
        if name == "cuMemFreeAsync":
            self.call("cuStreamSynchronize", *more)  # so that the memory counts as free

    def check_usable(self) -> None:
        """Raise the error that made the GPU unusable, or that of a closed device."""
        if self._unusable:
            what, remedy = self._unusable
            raise BackendError(what, remedy=remedy)

    def _fail(self, name: str, status: Any) -> NoReturn:
        what = f"{name} failed with {status.name} ({int(status)})"
        if int(status) == _OUT_OF_MEMORY:
            raise OutOfMemoryError(
                f"the GPU is out of memory: {what}",
                remedy="use a smaller image, top_k, max_side or max_in_flight",
            )
        if int(status) == _DESTROYED_CONTEXT:
            what = f"the context of the GPU was destroyed: {what}"
            self._unusable = (what, "load the pipeline again, in a context that outlives it")
            self.check_usable()
        if int(status) in _STICKY:
            last = "--debug names the kernel"
            if self.last_launch is not None:
                last = f"the last kernel was {self.last_launch}"
            what = f"the GPU stopped, and this process cannot use it any longer: {what}; {last}"
            self._unusable = (what, "restart the process")
            self.check_usable()
        raise BackendError(f"the GPU refused a call: {what}", remedy=_REMEDY)


_contexts: weakref.WeakSet[CudaContext] = weakref.WeakSet()


@atexit.register
def _close_contexts() -> None:
    """Release everything while the interpreter and the driver still work."""
    for context in list(_contexts):
        context.close()
