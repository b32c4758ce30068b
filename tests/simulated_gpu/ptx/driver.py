# SPDX-License-Identifier: Apache-2.0
"""A driver that interprets PTX: memory is an arena whose accesses are checked."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from tests.kernels.running import Array, Inputs, Numbers, Outputs, run
from tests.simulated_gpu.immediate import ImmediateContext, Kernel
from tests.simulated_gpu.ptx.compilation import LineInfo, kernel_of
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.launch import launch
from tests.simulated_gpu.ptx.memory import GLOBAL_BASE, WRITTEN, Memory

from foveate.kernels import Op
from foveate.kernels.op import Launch
from foveate.runtime.devices.cuda import CudaDevice


@dataclass(frozen=True, kw_only=True)
class Launched:
    """One launch: name of the kernel, and what it did."""

    kernel: str
    counters: Counters


class PtxContext(ImmediateContext):
    """The calls of the driver, bound to one arena.

    Args:
        architecture: Architecture as "sm_75".
        backwards: See `launch`.
    """

    def __init__(self, architecture: str, *, backwards: bool = False) -> None:
        self.memory = Memory(1 << 27)
        self.launched: list[Launched] = []
        self._backwards = backwards
        super().__init__(architecture)

    def allocate(self, size: int) -> int:
        return self.memory.empty((size,), "u1", "buffer").address

    def free(self, address: int) -> None:
        """The arena is not used again, so that a use after this is found out by nobody."""

    def copy(self, target: int, source: int, size: int) -> None:
        content, known = self._view(source, size)
        assert known is None or (known == WRITTEN).all(), "bytes are copied that nothing wrote"
        place, state = self._view(target, size)
        place[...] = content
        if state is not None:
            state[...] = WRITTEN

    def find(self, code: bytes, name: str) -> Kernel:
        text = code.decode()

        def run(given: Launch) -> None:
            counters = launch(
                kernel_of(text, name, given.shared_bytes),
                self.memory,
                given.blocks,
                given.block,
                list(given.numbers),
                backwards=self._backwards,
            )
            self.launched.append(Launched(kernel=name, counters=counters))

        return run

    def _view(self, address: int, size: int) -> tuple[Array, Array | None]:
        """The bytes, and for those of the arena their state."""
        if GLOBAL_BASE <= address < GLOBAL_BASE + len(self.memory.data):
            part = slice(address - GLOBAL_BASE, address - GLOBAL_BASE + size)
            return self.memory.data[part], self.memory.state[part]
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)), None


class SimulatedGpu:
    """A GPU whose launches are interpreted and counted.

    Args:
        architecture: Architecture as "sm_75".
        backwards: See `launch`.
    """

    def __init__(self, architecture: str, *, backwards: bool = False) -> None:
        self.context = PtxContext(architecture, backwards=backwards)
        self.device = CudaDevice(code="ptx", context=self.context, compiler=LineInfo())

    def run(
        self, op: Op, inputs: Inputs, outputs: Outputs, **numbers: Numbers
    ) -> tuple[list[Array], dict[str, Counters]]:
        """Launch an operation; return its outputs, which it must write in full, and the counts."""
        self.context.launched.clear()
        results = run(self.device, op, inputs, outputs, poison=False, **numbers)
        found = {launched.kernel: launched.counters for launched in self.context.launched}
        assert all(counters.threads["local load"] == 0 for counters in found.values())
        return results, found
