# SPDX-License-Identifier: Apache-2.0
"""Stages as sessions of ONNX Runtime on an NVIDIA GPU, with tensors in the memory of the device."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
from typing import TYPE_CHECKING, Any

import onnxruntime

from foveate.bundle.external_data import external_files
from foveate.errors import BackendError
from foveate.runtime.devices.cuda_memory import cuda_buffer
from foveate.runtime.devices.cuda_streams import cuda_stream
from foveate.runtime.engines.onnxruntime_session import (
    first_line,
    loading_errors,
    open_session,
    read_specs,
    readable_path,
    running_errors,
    session_options,
)
from foveate.runtime.engines.own_stream import OwnStreamEngine
from foveate.system.gpu import current_gpu
from foveate.system.once import once
from foveate.system.private_files import cache_folder, check_private, make_private
from foveate.system.regular_files import file_digest
from foveate.system.resources import shortage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from foveate.runtime.devices import Buffer, Stream

Configured = tuple[str, dict[str, str]]
"""An execution provider with its options."""

_CUDNN = "libcudnn.so.9"
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


class OnnxRuntimeCudaEngine(OwnStreamEngine):
    """A stage as a session of ONNX Runtime that reads and writes the memory of a GPU in place.

    A session binds its weights and the arena for intermediate results to the one stream that it is
    opened on. A session per image in flight would also take some seconds whenever an image has a
    new size.

    Args:
        path: The ONNX file.
        stream: Stream of the GPU for all runs, which the engine owns. Its context must be the
            primary context of the GPU.
        gpu: Index of the GPU among those that are visible to CUDA.
        file: Descriptor of the same file. Without ``tensorrt`` it is read instead of the path, where
            possible, so that the path may be replaced meanwhile.
        tensorrt: Whether ONNX Runtime compiles what it can with TensorRT: at the first run of each
            size, for minutes, and kept in the user's cache.

    Raises:
        BundleError: The file is not a model that ONNX Runtime can run.
        BackendError: This ONNX Runtime has no such provider, or it does not start; or memory runs
            out.
    """

    def __init__(
        self,
        path: Path,
        stream: Stream,
        *,
        gpu: int = 0,
        file: int | None = None,
        tensorrt: bool = False,
    ) -> None:
        check_provider(TENSORRT if tensorrt else CUDA)
        self._path = path
        self._gpu = gpu
        with loading_errors(path):
            engines = _engine_folder(path) if tensorrt else None
            providers = _providers(gpu, cuda_stream(stream).handle, engines)
            # The names of engines contain that of the file.
            source = path if tensorrt else readable_path(path, file)
            self._session: Any = _open(source, providers)
        super().__init__(*read_specs(self._session, path), stream)
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = 4  # its errors become ours
        # Without it, each run would end with a wait for its stream.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def prepare(self, bindings: Mapping[str, Buffer]) -> Callable[[], None]:
        """Return a function that enqueues one run on the engine's stream.

        It raises BackendError if ONNX Runtime fails, or memory runs out.
        """
        session = self._session
        binding = session.io_binding()
        for spec, bind in (
            *((one, binding.bind_input) for one in self.inputs),
            *((one, binding.bind_output) for one in self.outputs),
        ):
            one = cuda_buffer(bindings[spec.name])
            bind(spec.name, "cuda", self._gpu, one.dtype, one.shape, one.address)

        def run() -> None:
            with running_errors(self._path):
                session.run_with_iobinding(binding, self._options)

        return run

    def close(self) -> None:
        """Release the session; enqueued runs must be done. Closing twice does nothing."""
        self._session = None


def check_provider(provider: str) -> None:
    """Check that an execution provider is installed, and that the driver is not too old for it.

    Raises:
        BackendError: It is not, or there is no driver, or it is for an older CUDA.
    """
    if provider not in onnxruntime.get_available_providers():
        raise BackendError(
            f"this ONNX Runtime has no {provider}", remedy="run: pip install onnxruntime-gpu"
        )
    gpu = current_gpu()
    if gpu is None:
        raise BackendError(
            f"{provider} needs an NVIDIA GPU, and no driver of one works here",
            remedy="install the driver, or use --device cpu; `foveate doctor` shows what works here",
        )
    built = str(onnxruntime.cuda_version)
    if _major(gpu.driver) < _major(built):
        raise BackendError(
            f"this ONNX Runtime is for CUDA {built}, and the driver of {gpu.name} supports CUDA "
            f"{gpu.driver} at most",
            remedy="update the driver, or install an onnxruntime-gpu for that version of CUDA",
        )


def _open(source: Path, providers: list[Configured]) -> Any:
    """Open a session, and check that it uses the first of these providers."""
    _prepare()
    name = providers[0][0]
    check_cudnn(name)
    options = session_options(threads=1)  # only the arithmetic of shapes runs on the CPU
    # The arena then grows by what the runs need only.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    try:
        session = open_session(source, options, providers)
    except RuntimeError as error:  # a provider's; errors of the stage have other classes
        if shortage(error) is not None:
            raise
        raise _not_started(name, first_line(error)) from error
    if name not in session.get_providers():  # it was silently opened on the CPU
        raise _not_started(name, "although this ONNX Runtime has it")
    return session


def check_cudnn(provider: str) -> None:
    """Check that cuDNN loads, which some releases do not need before the first convolution.

    Raises:
        BackendError: It does not.
    """
    try:
        ctypes.CDLL(_CUDNN)
    except OSError as error:
        raise _not_started(provider, str(error)) from error


def _not_started(provider: str, why: str) -> BackendError:
    cuda = f"CUDA {_major(str(onnxruntime.cuda_version))}"
    needs = f"the libraries of {cuda} and cuDNN 9"
    remedy = "run: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if provider == TENSORRT:
        needs += f", and TensorRT 10 for {cuda} where the linker finds it"
        remedy += ", or use --backend onnxruntime"
    return BackendError(f"{provider} does not start here ({why}): it needs {needs}", remedy=remedy)


def _providers(gpu: int, stream: int, engines: Path | None) -> list[Configured]:
    """Return the providers with their options, the preferred one first.

    Args:
        gpu: See :class:`OnnxRuntimeCudaEngine`.
        stream: The ``CUstream`` for all runs.
        engines: Directory for the engines of TensorRT, or None to use CUDA alone.
    """
    place = {"device_id": str(gpu), "user_compute_stream": str(stream)}
    cuda = {
        **place,
        # By default the arena doubles whenever it is full.
        "arena_extend_strategy": "kSameAsRequested",
        # By default each convolution tries all algorithms for each new size of an image.
        "cudnn_conv_algo_search": "HEURISTIC",
        # By default float32 is multiplied with 10 bits of fraction.
        "use_tf32": "0",
    }
    if engines is None:
        return [(CUDA, cuda)]
    caches = {
        f"trt_{kind}_cache_{key}": value
        for kind in ("engine", "timing")
        for key, value in (("enable", "True"), ("path", str(engines)))
    }
    # The CUDA provider runs the nodes that TensorRT refuses.
    return [(TENSORRT, place | caches), (CUDA, cuda)]


def _engine_folder(path: Path) -> Path:
    """Return the directory where ONNX Runtime keeps the engines that TensorRT compiles of a file.

    Each content has its own directory: ONNX Runtime tells engines apart by the names in a network,
    and would run the weights of an earlier training.
    """
    with path.open("rb") as stream:
        parts = [path.name, *sorted(set(external_files(stream, path.stat().st_size)))]
    digests = "".join(file_digest(path.parent / name) for name in parts)
    content = hashlib.sha256(digests.encode()).hexdigest()
    folder = cache_folder("onnxruntime-tensorrt") / content
    try:
        make_private(folder)
        check_private(folder)  # an engine is code that runs in this process
    except OSError as error:
        raise BackendError(
            f"the cache of engines cannot be used ({error.strerror})",
            file=folder,
            remedy="set FOVEATE_CACHE to a directory that you may write",
        ) from error
    return folder


@once  # sessions are opened in several threads, which would exchange stdout for good
def _prepare() -> None:
    """Load the libraries of CUDA and cuDNN from their wheels, where the linker does not look."""
    onnxruntime.set_default_logger_severity(4)  # an error reports a provider that does not start
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the names of missing libraries
        onnxruntime.preload_dlls()


def _major(version: str) -> int:
    return int(version.split(".", maxsplit=1)[0])
