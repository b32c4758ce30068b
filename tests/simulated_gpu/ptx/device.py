# SPDX-License-Identifier: Apache-2.0
"""A device that is not there: launches our kernels by name, as production launches them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tests.simulated_gpu.ptx import compilation
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.launch import launch
from tests.simulated_gpu.ptx.memory import Allocation, Array, Memory

from foveate.kernels.device_launches import launch_of

__all__ = ["Device"]


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
        launched = launch_of(kernel, arguments)
        shape, folder = launched.shape, compilation.FOLDER
        compiled = compilation.kernel_of(
            folder / launched.source, self.architecture, launched.kernel, folder, shape.shared_bytes
        )
        return launch(
            compiled,
            self.memory,
            shape.grid,
            shape.block,
            launched.arguments,
            backwards=self.backwards,
        )
