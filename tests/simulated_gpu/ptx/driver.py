# SPDX-License-Identifier: Apache-2.0
"""A driver that interprets PTX: memory is an arena whose accesses are checked."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.kernels.running import Array, Inputs, Numbers, Outputs, run
from tests.simulated_gpu.core import LaunchConfig, SimulatedCore, Stream
from tests.simulated_gpu.ptx.compilation import LineInfo, kernel_of
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.launch import launch
from tests.simulated_gpu.ptx.memory import GLOBAL_BASE, WRITTEN, Memory

from foveate.kernels import Op
from foveate.runtime.devices.cuda import CudaDevice


@dataclass(frozen=True, kw_only=True)
class Launched:
    """One launch: name of the kernel, and what it did."""

    kernel: str
    counters: Counters


class PtxDriver(SimulatedCore):
    """The names of ``cuda.core``, bound to one arena.

    Args:
        architecture: Compute capability as "75".
        backwards: See `launch`.
    """

    def __init__(self, architecture: str, *, backwards: bool = False) -> None:
        self.memory = Memory(1 << 27)
        self.launched: list[Launched] = []
        self._backwards = backwards
        super().__init__(architecture, buffer=_Buffers(self.memory), object_code=ObjectCode)

    def allocate(self, size: int) -> Buffer:
        return Buffer(self.memory, self.memory.empty((size,), "u1", "buffer").address, size, None)

    def launch(self, stream: Stream, config: LaunchConfig, kernel: Any, *arguments: Any) -> None:
        assert isinstance(stream, Stream)
        text, name = kernel
        counters = launch(
            kernel_of(text, name, config.shmem_size),
            self.memory,
            config.grid,
            config.block,
            list(arguments),
            backwards=self._backwards,
        )
        self.launched.append(Launched(kernel=name, counters=counters))


class SimulatedGpu:
    """A GPU whose launches are interpreted and counted.

    Args:
        architecture: Architecture as "sm_75".
        backwards: See `launch`.
    """

    def __init__(self, architecture: str, *, backwards: bool = False) -> None:
        self.driver = PtxDriver(architecture.removeprefix("sm_"), backwards=backwards)
        self.device = CudaDevice(code="ptx", driver=self.driver, compiler=LineInfo())

    def run(
        self, op: Op, inputs: Inputs, outputs: Outputs, **numbers: Numbers
    ) -> tuple[list[Array], dict[str, Counters]]:
        """Launch an operation; return its outputs, which it must write in full, and the counts."""
        self.driver.launched.clear()
        results = run(self.device, op, inputs, outputs, poison=False, **numbers)
        found = {launched.kernel: launched.counters for launched in self.driver.launched}
        assert all(counters.threads["local load"] == 0 for counters in found.values())
        return results, found


class Buffer:
    """Bytes of the arena, or of the host."""

    def __init__(self, memory: Memory, handle: int, size: int, owner: Any) -> None:
        self._memory, self.handle, self.size, self._owner = memory, handle, size, owner

    def copy_from(self, source: Buffer, *, stream: Stream) -> None:
        assert source.size == self.size
        assert isinstance(stream, Stream)
        bytes_of, known = source._view()
        assert known is None or (known == WRITTEN).all(), "bytes are copied that nothing wrote"
        target, state = self._view()
        target[...] = bytes_of
        if state is not None:
            state[...] = WRITTEN

    def _view(self) -> tuple[Array, Array | None]:
        """The bytes, and for those of the arena their state."""
        if self.handle >= GLOBAL_BASE and self.handle < GLOBAL_BASE + len(self._memory.data):
            start = self.handle - GLOBAL_BASE
            part = slice(start, start + self.size)
            return self._memory.data[part], self._memory.state[part]
        raw = (ctypes.c_uint8 * self.size).from_address(self.handle)
        return np.ctypeslib.as_array(raw), None


class _Buffers:
    """The class ``Buffer``, as far as it is called."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def from_handle(self, ptr: int, size: int, *, owner: Any) -> Buffer:
        return Buffer(self._memory, ptr, size, owner)


class ObjectCode:
    """A module of PTX; a cubin cannot be interpreted."""

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def from_ptx(cls, code: bytes, *, name: str) -> ObjectCode:
        assert name
        return cls(code.decode())

    @classmethod
    def from_cubin(cls, code: bytes, *, name: str) -> ObjectCode:
        raise AssertionError(f"{name}: {len(code)} bytes of cubin cannot be interpreted")

    def get_kernel(self, name: str) -> tuple[str, str]:
        return self._text, name
