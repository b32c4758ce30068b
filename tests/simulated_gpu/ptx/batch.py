# SPDX-License-Identifier: Apache-2.0
"""The blocks of a grid that run together, with everything that their threads can access."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.faults import KernelFault
from tests.simulated_gpu.ptx.frame import Registers
from tests.simulated_gpu.ptx.memory import Array, Memory
from tests.simulated_gpu.ptx.onchip import SharedMemory
from tests.simulated_gpu.ptx.parser import Instruction
from tests.simulated_gpu.ptx.program import Program

if TYPE_CHECKING:
    from tests.simulated_gpu.ptx.frame import Frame

Dim3 = tuple[int, int, int]


class Batch:
    """Blocks that run together.

    Args:
        program: The kernel.
        memory: Global memory.
        parameters: The kernel's parameters as bytes.
        grid: Blocks in x, y and z.
        block: Threads in x, y and z.
        block_numbers: Number of each block in the grid, (blocks,).
        counters: Of the launch.
        backwards: Atomics of one instruction are done from the last thread to the first.
    """

    def __init__(
        self,
        program: Program,
        memory: Memory,
        parameters: Array,
        *,
        grid: Dim3,
        block: Dim3,
        block_numbers: Array,
        counters: Counters,
        backwards: bool,
    ) -> None:
        self.program = program
        self.memory = memory
        self.parameters = parameters
        self.counters = counters
        self.backwards = backwards
        self.block_threads = block[0] * block[1] * block[2]
        self.threads = self.block_threads * len(block_numbers)
        self.all_lanes = np.arange(self.threads)
        self.block_of = self.all_lanes // self.block_threads
        self.thread_of = self.all_lanes % self.block_threads
        warps = -(-self.block_threads // 32)
        self.warp_of = self.block_of * warps + self.thread_of // 32
        self.lane_in_warp = self.thread_of % 32
        self.warps = warps * len(block_numbers)
        names = program.text.registers
        self.registers = Registers(self.threads, {name: program.dtype(name) for name in names})
        self.shared = SharedMemory(
            len(block_numbers), self.block_threads, program.shared_size, program.shared_grain
        )
        self._block_numbers = block_numbers
        self._grid, self._block = grid, block
        self._special = self._specials(grid, block)

    def _specials(self, grid: Dim3, block: Dim3) -> dict[str, Array]:
        number = self._block_numbers[self.block_of]
        if len(self._block_numbers) == 1:
            number = number[:1]
        thread = self.thread_of
        values = {
            "%tid.x": thread % block[0],
            "%tid.y": thread // block[0] % block[1],
            "%tid.z": thread // (block[0] * block[1]),
            "%ctaid.x": number % grid[0],
            "%ctaid.y": number // grid[0] % grid[1],
            "%ctaid.z": number // (grid[0] * grid[1]),
        }
        for i, axis in enumerate("xyz"):
            values[f"%ntid.{axis}"] = np.array([block[i]])
            values[f"%nctaid.{axis}"] = np.array([grid[i]])
        flat = {f"%tid.{axis}": 1 for i, axis in enumerate("xyz") if block[i] == 1}
        flat |= {f"%ctaid.{axis}": 1 for i, axis in enumerate("xyz") if grid[i] == 1}
        return {name: value[: flat.get(name)] for name, value in values.items()}

    def special(self, name: str, frame: Frame) -> Array:
        """Return a special register of the active threads, (1,) or (lanes,)."""
        value = self._special[name]
        return value if len(value) == 1 else value[frame.lanes]

    def who(self, lane: int) -> str:
        """Name a thread."""
        number = int(self._block_numbers[self.block_of[lane]])
        thread = int(self.thread_of[lane])
        at = tuple(int(i) for i in np.unravel_index(number, self._grid[::-1]))[::-1]
        inside = tuple(int(i) for i in np.unravel_index(thread, self._block[::-1]))[::-1]
        return f"block {at}, thread {inside}"

    def blame(self, fault: KernelFault, frame: Frame, instruction: Instruction) -> KernelFault:
        """Return the fault with kernel, thread and instruction in its text."""
        lane = int(frame.lanes[min(fault.position or 0, frame.count - 1)])
        place = self.program.place(instruction)
        return type(fault)(f"{self.program.name}: {self.who(lane)}: {place}: {fault}")
