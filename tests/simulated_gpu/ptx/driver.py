# SPDX-License-Identifier: Apache-2.0
"""Operations on the simulated GPU, with the counts of their kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.kernels.running import Array, Inputs, Numbers, Outputs, run
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.ptx.compilation import LineInfo
from tests.simulated_gpu.ptx.counters import Counters

from foveate.kernels import Op
from foveate.runtime.devices.cuda import CudaDevice


class SimulatedGpu:
    """A GPU whose launches are interpreted and counted.

    Args:
        simulation: The simulation, which is connected.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.device = CudaDevice(code="ptx", compiler=LineInfo())

    def run(
        self, op: Op, inputs: Inputs, outputs: Outputs, **numbers: Numbers
    ) -> tuple[list[Array], dict[str, Counters]]:
        """Launch an operation; return its outputs, which it must write in full, and the counts."""
        self.simulation.launched.clear()
        results = run(self.device, op, inputs, outputs, poison=False, **numbers)
        found = {launched.kernel: launched.counters for launched in self.simulation.launched}
        assert self.simulation.unwritten == []
        assert self.simulation.conflicts == []
        return results, found


@contextmanager
def simulated_gpu(architecture: str, *, backwards: bool = False) -> Iterator[SimulatedGpu]:
    """Open a GPU with fresh memory; see `Simulation`."""
    with connected(Simulation(architecture, backwards=backwards)) as simulation:
        gpu = SimulatedGpu(simulation)
        yield gpu
        gpu.device.close()
