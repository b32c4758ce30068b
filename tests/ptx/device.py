# SPDX-License-Identifier: Apache-2.0
"""A device that is not there: launches our kernels by name, as production launches them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tests.ptx import compilation
from tests.ptx.counters import Counters
from tests.ptx.launch import Argument, launch
from tests.ptx.memory import Allocation, Array, Memory

from foveate.kernels.launches import KERNELS

__all__ = ["Device"]

NUMBERS: dict[str, Callable[[float], np.generic]] = {
    "int": np.int32,
    "float": np.float32,
    "double": np.float64,
}


class Device:
    """Memory, and the kernels compiled for one architecture.

    Args:
        architecture: As "sm_90".
        backwards: See `launch`.
    """

    def __init__(self, architecture: str, *, backwards: bool = False) -> None:
        self.architecture = architecture
        self.backwards = backwards
        self.memory = Memory(1 << 26)

    def upload(self, array: Array, name: str = "input", shift: int = 0) -> Allocation:
        """Copy an array in."""
        return self.memory.upload(np.ascontiguousarray(array), name, shift)

    def empty(
        self, shape: tuple[int, ...], dtype: str = "float32", name: str = "output"
    ) -> Allocation:
        """Allocate what a kernel is to write."""
        return self.memory.empty(shape, dtype, name)

    def pointers(self, arrays: Sequence[Allocation]) -> Allocation:
        """Upload the addresses of arrays."""
        return self.upload(np.array([a.address for a in arrays], np.uint64), "addresses")

    def launch(self, kernel: str, **arguments: Allocation | float | None) -> Counters:
        """Launch `foveate_<kernel>` with the grid that production uses.

        Raises:
            KernelFault: It broke a rule.
        """
        record = KERNELS[f"foveate_{kernel}"]
        kinds = {name: kind for kind, name in map(str.split, record.parameters)}
        assert kinds.keys() == arguments.keys(), (sorted(kinds), sorted(arguments))
        passed: list[Argument] = []
        numbers: dict[str, int] = {}
        for name, kind in kinds.items():
            value = arguments[name]
            if kind == "pointer":
                assert value is None or isinstance(value, Allocation), name
                passed.append(value)
            else:
                assert isinstance(value, int | float), name
                passed.append(NUMBERS[kind](value))
                if kind == "int":
                    numbers[name] = int(value)
        shape = record.shape(**numbers, lanes=record.lanes)
        folder = compilation.FOLDER
        compiled = compilation.kernel_of(
            folder / record.source, self.architecture, record.name, folder, shape.shared_bytes
        )
        return launch(
            compiled, self.memory, shape.grid, shape.block, passed, backwards=self.backwards
        )
