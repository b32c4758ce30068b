# SPDX-License-Identifier: Apache-2.0
"""Stages as sessions of ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import onnxruntime

from foveate.arrays import Array
from foveate.runtime.engines.cpu import CpuEngine
from foveate.runtime.engines.onnxruntime_session import (
    loading_errors,
    open_session,
    read_specs,
    readable_path,
    running_errors,
    session_options,
)
from foveate.system.resources import usable_cores


class OnnxRuntimeEngine(CpuEngine):
    """A stage as a session of ONNX Runtime, which the engine owns.

    Args:
        path: The ONNX file.
        file: Descriptor of the same file. Where possible it is read instead of the path, so that
            the path may be replaced meanwhile.
        threads: Number of threads; by default, the number of cores that this process may use.
        lock: Held during each run. The engines of one pipeline share a lock: each of them uses all
            cores, so that two runs at a time would be no faster but need twice the memory.

    Raises:
        BundleError: The file is not a model that ONNX Runtime can run.
        BackendError: Memory or threads run out.
    """

    def __init__(
        self,
        path: Path,
        *,
        file: int | None = None,
        threads: int | None = None,
        lock: threading.Lock | None = None,
    ) -> None:
        self._path = path
        self._lock = lock or contextlib.nullcontext()
        with loading_errors(path):
            self._session: Any = open_session(
                readable_path(path, file), _options(threads or usable_cores())
            )
        _sessions.add(self._session)
        super().__init__(*read_specs(self._session, path))

    def close(self) -> None:
        """Release the session; enqueued runs must be done. Closing twice does nothing."""
        self._session = None

    def run(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        """Run the session on the memory of the arrays, without a copy.

        Raises:
            BackendError: ONNX Runtime fails, or memory or threads run out.
        """
        # The number of rows, and with it the binding, differs from run to run.
        binding = _bound(self._session, inputs, outputs)
        with running_errors(self._path), self._lock:
            self._session.run_with_iobinding(binding)


def release_arena() -> None:
    """Return to the system the memory that the sessions of this process keep for their next runs.

    The next image takes it anew, which costs some of its time. Images may be in work meanwhile.
    """
    # An arena is released at the end of a run only, and that of a process by a run of any session.
    session: Any = open_session(_IDENTITY, _options(threads=1))
    x, y = np.zeros((2, 1), np.float32)
    binding = _bound(session, {"x": x}, {"y": y})  # or the result would lie in the arena
    run_options = onnxruntime.RunOptions()
    run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    session.run_with_iobinding(binding, run_options)


def _bound(session: Any, inputs: dict[str, Array], outputs: dict[str, Array]) -> Any:
    """Return a binding of a session to the memory of arrays."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    return binding


# A model of the operator Identity, y = x, of one float32.
_IDENTITY = (
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01g'
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def _options(threads: int) -> Any:
    options = session_options(threads)
    options.inter_op_num_threads = 1
    # Each session has its own threads. They may spin between its operators, which are short, but
    # not while another session runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # One arena per process instead of one per session: 600 MB instead of 890 MB for an image of
    # 640x480, at the same speed.
    if _share_arena() == os.getpid():
        options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _share_arena() -> int:
    """Create the arena of this process, which sessions use only on request.

    Returns:
        The id of the process that owns the arena. In a forked child that is the parent, another
        thread of which may have held the lock of the arena at the fork.
    """
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    # It grows by what is requested, not to twice its size, and no part of it is exempt from release.
    growth = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(place, growth)
    return os.getpid()


_sessions: WeakSet[Any] = WeakSet()
# Sessions of the parent in a forked child. They are never released there: a session waits for its
# threads when it is released, and those run only in the parent.
_inherited: list[Any] = []

os.register_at_fork(after_in_child=lambda: _inherited.extend(_sessions))
