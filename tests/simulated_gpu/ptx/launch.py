# SPDX-License-Identifier: Apache-2.0
"""Launching a kernel: the arguments as bytes, the grid in batches of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Importing a module registers its instructions.
from tests.simulated_gpu.ptx import (
    instructions_atomic,
    instructions_convert,
    instructions_float,
    instructions_integer,
    instructions_memory,
    instructions_move,
    instructions_warp,
)
from tests.simulated_gpu.ptx.batch import Batch, Dim3
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.faults import Race
from tests.simulated_gpu.ptx.machine import Machine
from tests.simulated_gpu.ptx.memory import Allocation, Array, Memory
from tests.simulated_gpu.ptx.parser import ModuleText
from tests.simulated_gpu.ptx.program import Program, build_program

Argument = Allocation | np.generic | Array | None | bytes

INSTRUCTIONS = (
    instructions_atomic,
    instructions_convert,
    instructions_float,
    instructions_integer,
    instructions_memory,
    instructions_move,
    instructions_warp,
)
# Threads that run together: registers of so many fit into a cache of the second level.
TOGETHER = 16384


class Kernel:
    """A kernel that can be launched.

    Args:
        module: Parsed PTX.
        name: Name of the kernel.
        dynamic_shared: Bytes of shared memory that its launches ask for.
    """

    def __init__(self, module: ModuleText, name: str, dynamic_shared: int = 0) -> None:
        assert name in module.kernels, f"no kernel {name}; there are {sorted(module.kernels)}"
        self.program = build_program(module, name, dynamic_shared)


def launch(
    kernel: Kernel,
    memory: Memory,
    grid: int | Dim3,
    block: int | Dim3,
    arguments: Sequence[Argument],
    *,
    backwards: bool = False,
) -> Counters:
    """Run a kernel to its end.

    Args:
        kernel: The kernel.
        memory: Memory of its arrays.
        grid: Blocks in x, y and z.
        block: Threads in x, y and z.
        arguments: Arrays as allocations (None: a null pointer), numbers as numpy scalars, structures
            as bytes.
        backwards: Run the last blocks first, and atomics from the last thread to the first. A correct
            kernel gives the same results.

    Returns:
        What was counted.

    Raises:
        KernelFault: The kernel broke a rule.
    """
    sizes = _triple(grid), _triple(block)
    counters = Counters(len(memory.data))
    program = kernel.program
    parameters = _pack(program, arguments)
    memory.refresh()
    count = int(np.prod(sizes[0], dtype=np.int64))
    threads = int(np.prod(sizes[1]))
    together = max(TOGETHER // threads, 1)
    starts = range(0, count, together)
    with np.errstate(all="ignore"):
        for start in reversed(starts) if backwards else starts:
            numbers = np.arange(start, min(start + together, count))
            batch = Batch(
                program,
                memory,
                parameters,
                grid=sizes[0],
                block=sizes[1],
                block_numbers=numbers,
                counters=counters,
                backwards=backwards,
            )
            Machine(program, batch).run()
    stale = counters.stale()
    if stale is not None:
        raise Race(
            f"{program.name}: writes what it also reads as constant (ld.global.nc), "
            f"{memory.describe(stale)}"
        )
    return counters


def _triple(size: int | Dim3) -> Dim3:
    return (size, 1, 1) if isinstance(size, int) else size


def _pack(program: Program, arguments: Sequence[Argument]) -> Array:
    places = list(program.text.parameters.values())
    assert len(places) == len(arguments), (
        f"{program.name} takes {len(places)} arguments, found {len(arguments)}"
    )
    raw = np.zeros(-(-max((p.offset + p.size for p in places), default=0) // 8) * 8 + 8, np.uint8)
    for place, argument in zip(places, arguments, strict=True):
        if isinstance(argument, Allocation):
            value = argument.address.to_bytes(8, "little")
        elif argument is None:
            value = bytes(8)
        else:
            value = argument if isinstance(argument, bytes) else argument.tobytes()
        assert len(value) == place.size, (
            f"{program.name}: {place.name} has {place.size} bytes, found {len(value)}"
        )
        raw[place.offset : place.offset + place.size] = np.frombuffer(value, np.uint8)
    return raw
