# SPDX-License-Identifier: Apache-2.0
"""Stages as sessions of ONNX Runtime, on the CPU or on CUDA, with tensors in the memory of the CPU."""

from __future__ import annotations

import contextlib
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import onnxruntime

from foveate.arrays import Array
from foveate.bundle.external_data import external_files
from foveate.bundle.manifest import TensorSpec
from foveate.errors import BackendError, BundleError
from foveate.runtime.engines.cpu import CpuEngine
from foveate.runtime.engines.onnxruntime_session import first_line, open_session
from foveate.system.resources import shortage, usable_cores

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {"float": "float32", "float16": "float16", "int64": "int64", "int32": "int32"}


class OnnxRuntimeEngine(CpuEngine):
    """A stage as a session of ONNX Runtime, which the engine owns.

    Args:
        path: The ONNX file.
        file: Descriptor of the same file. Where possible it is read instead of the path, so that
            the path may be replaced meanwhile.
        threads: Number of threads; by default, the number of cores that this process may use.
        provider: ``"cpu"`` or ``"cuda"``.
        lock: Held during each run. The engines of one pipeline share a lock: each of them uses all
            cores, so that two runs at a time would be no faster but need twice the memory.

    Raises:
        BundleError: The file is not a model that ONNX Runtime can run.
        BackendError: The provider does not work on this machine.
    """

    def __init__(
        self,
        path: Path,
        *,
        file: int | None = None,
        threads: int | None = None,
        provider: str = "cpu",
        lock: threading.Lock | None = None,
    ) -> None:
        self._path = path
        self._lock = lock or contextlib.nullcontext()
        self._session = _session(
            path, _source(path, file), threads or usable_cores(), PROVIDERS[provider]
        )
        _sessions.add(self._session)
        try:
            super().__init__(
                tuple(_spec(value) for value in self._session.get_inputs()),
                tuple(_spec(value) for value in self._session.get_outputs()),
            )
        except UnicodeDecodeError as error:
            raise BundleError(
                "a stage has a name that is not UTF-8 text", file=path, remedy="export it again"
            ) from error

    def close(self) -> None:
        """Release the session; enqueued runs must be done. Closing twice does nothing."""
        self._session = None

    def run(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        """Run the session on the memory of the arrays, without a copy.

        Raises:
            BackendError: ONNX Runtime fails, or memory or threads run out.
        """
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        try:
            with self._lock:
                self._session.run_with_iobinding(binding)
        except Exception as error:  # its errors have no other common class
            if (short := shortage(error)) is not None:
                raise short from error
            raise BackendError(
                f"ONNX Runtime failed ({first_line(error)})",
                file=self._path,
                remedy="run: foveate verify BUNDLE",
            ) from error


def _source(path: Path, file: int | None) -> Path:
    """Return the path to read: that of the open file, unless weights lie in files next to it."""
    opened = Path(f"/proc/self/fd/{file}")
    if file is None or not opened.exists():
        return path
    with opened.open("rb") as stream:
        return path if any(external_files(stream, opened.stat().st_size)) else opened


def _session(path: Path, source: Path, threads: int, provider: str) -> Any:
    if provider not in onnxruntime.get_available_providers():
        raise BackendError(
            f"this ONNX Runtime has no {provider}", remedy="run: pip install onnxruntime-gpu"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors become ours
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Each session has its own threads. They may spin between its operators, which are short, but
    # not while another session runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # ONNX Runtime would keep one memory pattern per image size forever.
    options.enable_mem_pattern = False
    # One arena per process instead of one per session: 600 MB instead of 890 MB for an image of
    # 640x480, at the same speed.
    if _share_arena() == os.getpid():
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = open_session(source, options, provider)
    except Exception as error:  # its errors have no other common class
        if (short := shortage(error)) is not None:
            raise short from error
        raise BundleError(
            f"ONNX Runtime cannot load a stage ({first_line(error)})",
            file=path,
            remedy="export the bundle again: foveate export CHECKPOINT --output BUNDLE, or update "
            "onnxruntime",
        ) from error
    if provider not in session.get_providers():
        raise BackendError(
            f"{provider} does not start here, although this ONNX Runtime has it",
            remedy="run: foveate doctor",
        )
    return session


@cache
def _share_arena() -> int:
    """Create the arena of this process, which sessions use only on request.

    Returns:
        The id of the process that owns the arena. In a forked child that is the parent, another
        thread of which may have held the lock of the arena at the fork.
    """
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, None)
    return os.getpid()


_sessions: WeakSet[Any] = WeakSet()
# Sessions of the parent in a forked child. They are never released there: a session waits for its
# threads when it is released, and those run only in the parent.
_inherited: list[Any] = []

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=lambda: _inherited.extend(_sessions))


def _spec(value: Any) -> TensorSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(length if length is not None else "?" for length in value.shape)
    return TensorSpec(name=value.name, dtype=_DTYPES.get(kind, kind), shape=shape)
