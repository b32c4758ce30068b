# SPDX-License-Identifier: Apache-2.0
"""Modules of PTX, and kernels that are interpreted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.ptx.compilation import kernel_of, module_of
from tests.simulated_gpu.ptx.launch import launch

if TYPE_CHECKING:
    from tests.simulated_gpu.driver.simulation import Simulation
    from tests.simulated_gpu.ptx.batch import Dim3


class Module:
    """A file of kernels.

    Args:
        simulation: The GPU that loads it.
        code: PTX.

    Raises:
        Refused: It is no PTX.
    """

    def __init__(self, simulation: Simulation, code: bytes) -> None:
        self.simulation = simulation
        if b".version" not in code[:4096]:
            raise Refused(Status.INVALID_IMAGE, "only PTX can be interpreted")
        self.text = code.decode()
        self._kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        """Return a kernel.

        Raises:
            Refused: There is none of this name.
        """
        if name not in module_of(self.text).kernels:
            raise Refused(Status.NOT_FOUND, name)
        return self._kernels.setdefault(name, Kernel(self, name))

    def unload(self) -> None:
        """Forget the kernels."""
        gone = set(self._kernels.values())
        objects = self.simulation.objects
        for handle in [handle for handle, one in objects.items() if one in gone]:
            del objects[handle]


class Kernel:
    """A kernel of a module.

    Attributes:
        places: Offset and size of each parameter in bytes.
        most_threads: Threads of a block that it is compiled for.
        shared: Bytes of its own shared memory.
    """

    def __init__(self, module: Module, name: str) -> None:
        self.module = module
        self.name = name
        text = module_of(module.text).kernels[name]
        self.places = [(one.offset, one.size) for one in text.parameters.values()]
        self.most_threads = text.most_threads
        self.shared = max((one.offset + one.size for one in text.shared.values()), default=0)

    def launch(self, grid: Dim3, block: Dim3, shared: int, values: list[bytes]) -> None:
        """Run it to its end, unless the simulation leaves kernels out."""
        simulation = self.module.simulation
        if not simulation.run_kernels:
            return
        simulation.ran(
            self.name,
            launch(
                kernel_of(self.module.text, self.name, shared),
                simulation.memory,
                grid,
                block,
                values,
                backwards=simulation.backwards,
            ),
        )
