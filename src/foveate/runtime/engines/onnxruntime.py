# SPDX-License-Identifier: Apache-2.0
"""Engines of ONNX Runtime, on the CPU or on CUDA, with inputs and outputs in host memory.

NOTE: Sessions of one pipeline take turns. Each of them uses all cores, so that two at a time would
be no faster, while the memory for their intermediate results would add up. For the same reason they
draw it from one arena of the process, not from one each: that took an image of 640x480 from 890 MB
to 600 MB, at the same speed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import onnxruntime

from foveate.bundle.external_data import external_files
from foveate.bundle.manifest import TensorSpec
from foveate.errors import BackendError, BundleError
from foveate.runtime.devices.cpu import cpu_array, cpu_stream
from foveate.runtime.engines.onnxruntime_session import open_session
from foveate.runtime.engines.onnxruntime_text import said
from foveate.runtime.engines.rows import leading_rows
from foveate.system.cores import usable_cores
from foveate.system.shortage import shortage

if TYPE_CHECKING:
    from foveate.arrays import Int32Array
    from foveate.runtime.devices import Buffer, Stream

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {"float": "float32", "float16": "float16", "int64": "int64", "int32": "int32"}


class OnnxRuntimeEngine:
    """A stage as a session of ONNX Runtime.

    Args:
        path: The ONNX file.
        file: Descriptor of the same file, which is read in place of the path where that is possible:
            then it does not matter if the path is replaced meanwhile.
        threads: Number of threads; by default as many as this process may use cores.
        provider: ``"cpu"`` or ``"cuda"``.
        turn: Held during each run; shared by the engines that are to take turns.

    Raises:
        BundleError: The file is no model that ONNX Runtime can run.
        BackendError: The provider does not work here.
    """

    def __init__(
        self,
        path: Path,
        *,
        file: int | None = None,
        threads: int | None = None,
        provider: str = "cpu",
        turn: threading.Lock | None = None,
    ) -> None:
        self._path = path
        self._turn = turn or contextlib.nullcontext()
        self._session = _session(
            path, _source(path, file), threads or usable_cores(), PROVIDERS[provider]
        )
        _sessions.add(self._session)
        try:
            self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
            self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
        except UnicodeDecodeError as error:
            raise BundleError(
                "a stage has a name that is no UTF-8 text", file=path, remedy="export it again"
            ) from error

    def enqueue(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> None:
        """Enqueue one run; see :class:`foveate.runtime.engines.Engine`."""
        count = None if rows is None else cpu_array(rows)
        cpu_stream(stream).enqueue(self._run, dict(bindings), count, first)

    def close(self) -> None:
        """Release the session; runs that are enqueued must be done. Closing twice does nothing."""
        self._session = None

    def _run(self, bindings: Mapping[str, Buffer], count: Int32Array | None, first: int) -> None:
        if count is not None and count[0] <= first:
            return
        binding = self._session.io_binding()
        # Bound memory is read and written in place: nothing is copied on the way in or out.
        for name, array in leading_rows(self.inputs, bindings, count, first).items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in leading_rows(self.outputs, bindings, count, first).items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        try:
            with self._turn:
                self._session.run_with_iobinding(binding)
        except Exception as error:  # its errors have no common class but this
            if (short := shortage(error)) is not None:
                raise short from error
            raise BackendError(
                f"ONNX Runtime failed ({said(error)})",
                file=self._path,
                remedy="run: foveate verify BUNDLE",
            ) from error


def _source(path: Path, file: int | None) -> Path:
    """Return the path to read: of the open file, unless weights beside it are found by its own."""
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
    # Each session has threads of its own. They may spin between its operators, which are short, but
    # not while another session computes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Every image size is a new pattern, which would be kept for ever.
    options.enable_mem_pattern = False
    if _share_arena() == os.getpid():
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = open_session(source, options, provider)
    except Exception as error:  # its errors have no common class but this
        if (short := shortage(error)) is not None:
            raise short from error
        raise BundleError(
            f"ONNX Runtime cannot load a stage ({said(error)})",
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
    """Make the arena of this process; it is there for sessions that ask for it only.

    Returns:
        The process that it belongs to. In a forked child that is the parent, whose other threads
        may have held the arena's lock at the fork.
    """
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, None)
    return os.getpid()


_sessions: WeakSet[Any] = WeakSet()
_inherited: list[Any] = []
"""Sessions of the parent in a forked child. They are never released there: releasing a session waits
for its threads, and those run in the parent only."""

if hasattr(os, "register_at_fork"):  # as everywhere but on Windows
    os.register_at_fork(after_in_child=lambda: _inherited.extend(_sessions))


def _spec(value: Any) -> TensorSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(length if length is not None else "?" for length in value.shape)
    return TensorSpec(name=value.name, dtype=_DTYPES.get(kind, kind), shape=shape)
