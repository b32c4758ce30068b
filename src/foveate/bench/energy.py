# SPDX-License-Identifier: Apache-2.0
"""Energy counters: those of the GPU, or of the processor packages where the system shows them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.bench.machine import system_text

if TYPE_CHECKING:
    from foveate.bench.gpu_counters import GpuCounters


class EnergyMeter:
    """A counter of energy.

    Args:
        gpu: Counters of the GPU, if the pipeline runs on one.
        root: Directory that contains ``sys``.

    Attributes:
        counter: Name of the counter; None if this machine has none.
    """

    def __init__(self, gpu: GpuCounters | None, root: Path = Path("/")) -> None:
        self._gpu = gpu
        domains = (root / "sys/class/powercap").glob("intel-rapl:[0-9]*")
        # Others are parts of a package, or the whole machine, and would count energy twice.
        self._packages = [one for one in domains if system_text(one / "name").startswith("package")]
        self.counter: str | None = None
        if self.joules() is not None:
            self.counter = "NVML, GPU only" if gpu is not None else "RAPL, processor packages"

    def joules(self) -> float | None:
        """Return the energy that was counted so far; None if it is not counted.

        The counter of a processor starts again at 0 after some minutes at full load, so a
        difference may be negative.
        """
        if self._gpu is not None:
            return self._gpu.joules()
        with suppress(ValueError):  # most systems show it to the administrator only
            energies = [int(system_text(one / "energy_uj")) for one in self._packages]
            return sum(energies) / 1e6 if energies else None
        return None
