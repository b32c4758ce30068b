# SPDX-License-Identifier: Apache-2.0
"""TensorRT, its lean runtime, or TensorRT for RTX, by the names that all of them share."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from foveate.errors import BackendError, BundleError, FoveateError, OutOfMemoryError
from foveate.system.files import write_file
from foveate.system.once import once
from foveate.system.private_files import cache_folder, check_private, make_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OUT_OF_MEMORY = re.compile("(?i)out ?of ?memory|memory .* could not be allocated")


class Library:
    """A module of TensorRT with its runtime. Its errors are quoted from TensorRT's log.

    Args:
        module: ``tensorrt``, ``tensorrt_lean`` or ``tensorrt_rtx``. A GPU must be in use already:
            without a driver, some of them end the process.

    Raises:
        BackendError: It does not start.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self._log = _log_of(module.ILogger)
        what = f"{module.__name__} does not start"
        self._runtime = self.require(what, module.Runtime, self._log)

    def load_plugins(self, path: Path) -> None:
        """Load the plugin library, which must precede the plans that use it.

        Raises:
            BackendError: It cannot be loaded.
        """
        what = f"the plugin library {path} cannot be loaded"
        self.require(what, _load_plugins, self.module, path)

    def load(self, path: Path, name: str, *, version_compatible: bool) -> LoadedPlan:
        """Load a plan.

        Args:
            path: File of the plan.
            name: Name of the engine, for messages.
            version_compatible: Whether the plan was compiled for later releases as well.

        Raises:
            BackendError: TensorRT refuses the plan.
            BundleError: The plan cannot be read.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            what = f"a plan cannot be read ({error.strerror})"
            raise BundleError(what, file=path, remedy="compile it again") from error
        if version_compatible:
            self._runtime.engine_host_code_allowed = True  # such a plan contains its own runtime
        what = f"the plan {path} cannot be loaded"
        engine = self.require(what, self._runtime.deserialize_cuda_engine, content)
        return LoadedPlan(self, engine, name, content)

    def require(self, what: str, call: Callable[..., Any], *arguments: object) -> Any:
        """Call a function of TensorRT, and return its result unless that is false or ``None``.

        Args:
            what: Description of the failure.
            call: The function.
            arguments: Its arguments.

        Raises:
            BackendError: TensorRT refuses the arguments; the text quotes its log.
            OutOfMemoryError: It has too little memory.
        """
        self._log.errors.clear()
        try:
            found = call(*arguments)
        except (RuntimeError, TypeError) as error:  # as some functions of the bindings do
            self._log.errors.append(str(error))
            found = None
        if not found:
            reason = "; ".join(self._log.errors) or f"{self.module.__name__} gives no reason"
            kind = OutOfMemoryError if _OUT_OF_MEMORY.search(reason) else BackendError
            raise kind(f"{what} ({reason})", remedy="run: foveate doctor")
        return found


class LoadedPlan:
    """A plan in the memory of the GPU, which makes execution contexts.

    Args:
        library: Library that loaded it.
        engine: TensorRT's engine.
        name: Name of the engine, for messages.
        content: Content of the plan.
    """

    def __init__(self, library: Library, engine: Any, name: str, content: bytes) -> None:
        trt = library.module
        self.name = name
        self._library = library
        self._engine = engine
        what = f"the engine {name!r} cannot be configured"
        self._config = config = library.require(what, engine.create_runtime_config)
        # The memory of a context is ours, so that contexts can share it.
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(strategy)
        self._kernels: _KernelCache | None = None
        if hasattr(config, "set_runtime_cache"):
            # TensorRT for RTX compiles kernels where they run. By default it does so beside the
            # first runs, so that a CUDA graph would hold the slow kernels in their place forever.
            kinds = trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER
            self._kernels = _KernelCache(config, content)

    def memory_bytes(self, profile: int) -> int:
        """Return the number of bytes of device memory that a context takes."""
        return int(self._engine.get_device_memory_size_for_profile_v2(profile))

    def new_context(self) -> Any:
        """Return a new execution context, without memory.

        Raises:
            BackendError: TensorRT makes none.
        """
        what = f"the engine {self.name!r} has no further context"
        return self._library.require(what, self._engine.create_execution_context, self._config)

    def tensors(self) -> dict[str, str]:
        """Return the name and the type of each input and output, such as ``FLOAT``."""
        engine = self._engine
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        return {name: engine.get_tensor_dtype(name).name for name in names}

    def close(self) -> None:
        """Release the engine, once its contexts are gone."""
        if self._kernels is not None:
            self._kernels.store()
        self._kernels = self._config = self._engine = None


class _KernelCache:
    """The kernels that TensorRT for RTX compiled for a plan, in the user's cache."""

    def __init__(self, config: Any, content: bytes) -> None:
        self._file = cache_folder("rtx") / f"{hashlib.sha256(content).hexdigest()}.kernels"
        self._cache = config.create_runtime_cache()
        # It is an optimization only: a file that is missing or not private is not used, and
        # TensorRT itself refuses that of another machine.
        with suppress(OSError, BackendError):
            check_private(self._file)
            self._cache.deserialize(self._file.read_bytes())
        config.set_runtime_cache(self._cache)

    def store(self) -> None:
        """Write the kernels to the cache, if that is possible."""
        with suppress(OSError, FoveateError):
            make_private(self._file.parent)
            write_file(self._file, bytes(memoryview(self._cache.serialize())))


@once  # TensorRT has one logger at a time, and gives it to what a later runtime does, too
def _log_of(base: Any) -> Any:
    class Log(base):  # type: ignore[misc]  # the module is chosen at run time
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: deque[str] = deque(maxlen=4)

        def log(self, severity: Any, message: str) -> None:
            if severity in (base.INTERNAL_ERROR, base.ERROR):
                self.errors.append(message)

    return Log()


@once  # a second library of the same operators would be refused
def _load_plugins(trt: Any, path: Path) -> bool:
    if trt.get_plugin_registry().load_library(str(path)) is None:
        raise RuntimeError("the library does not load")
    return True
