# SPDX-License-Identifier: Apache-2.0
"""The measurement of a bundle in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from foveate.bench.building import Surroundings
from foveate.bench.energy import EnergyMeter
from foveate.bench.floor import NullDevice, null_engines
from foveate.bench.gpu_counters import GpuCounters, open_gpu_counters
from foveate.bench.images import read_images
from foveate.bench.measurement import Measurement
from foveate.bench.system import PipelineSystem, describe_subject
from foveate.bundle import read_bundle
from foveate.errors import BackendError
from foveate.progress import Progress, no_progress
from foveate.runtime import Pipeline
from foveate.runtime.loading import open_parts
from foveate.tracing.clock import SystemClock
from foveate.tracing.nvtx_ranges import NvtxRanges

if TYPE_CHECKING:
    from pathlib import Path

    from foveate.bench.options import BenchOptions
    from foveate.bundle import Bundle
    from foveate.runtime import PipelineOptions
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

# Opens a device and the engines of a bundle: see `foveate.runtime.loading.open_parts`.
OpenParts: TypeAlias = (
    "Callable[[Bundle, str, str, PipelineOptions], tuple[Device, Mapping[str, Engine]]]"
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be measured.

    Args:
        bundle: Name of a shipped bundle, or a directory.
        device: Name of the device.
        backend: Name of the backend.
        options: Options of the pipeline.
    """

    bundle: str
    device: str
    backend: str
    options: PipelineOptions


class Session(Measurement):
    """The measurement of a pipeline in this process.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        BackendError: The device or the backend does not work on this machine.
        MissingExtraError: NVTX ranges are requested, and the package nvtx is not installed.
        InputError: An image cannot be read.
    """

    def __init__(
        self,
        target: Target,
        files: Sequence[Path],
        options: BenchOptions,
        *,
        open_with: OpenParts = open_parts,
        progress: Progress = no_progress,
    ) -> None:
        clock = SystemClock()
        self._target = target
        ranges = NvtxRanges() if options.nvtx else None
        begin = clock.now()
        bundle, device, engines = read_bundle(
            target.bundle,
            lambda found: (found, *open_with(found, target.device, target.backend, target.options)),
        )
        self._load = clock.now() - begin
        self._device, self._bundle = device, bundle
        self._taken: int | None = None
        with ExitStack() as opened:
            opened.callback(device.close)  # after the engines
            for engine in engines.values():
                opened.callback(engine.close)
            self._free = self._free_bytes()
            manifest = target.options.applied_to(bundle.manifest)
            self._images = read_images(files, manifest, decoding=options.decoding)
            self._subject = describe_subject(
                bundle, device, target.backend, engines, target.options
            )
            system = PipelineSystem(self._pipeline(device, engines), self._images, clock, ranges)
            opened.pop_all()  # the system owns them
        if options.nvtx:  # a GPU takes longer then, which a comparison must show
            changed = {**self._subject.options, "nvtx": True}
            self._subject = replace(self._subject, options=changed)
        self._gpu: GpuCounters | None = None if device.name == "cpu" else open_gpu_counters()
        self._energy = EnergyMeter(self._gpu)
        super().__init__(
            system,
            options,
            inputs=self._images.inputs,
            in_flight=target.options.max_in_flight,
            clock=clock,
            meter=self._energy,
            progress=progress,
        )

    def null_system(self) -> PipelineSystem:
        """Return a pipeline whose operations and networks do nothing."""
        engines = null_engines(self._bundle.manifest)
        return PipelineSystem(self._pipeline(NullDevice(), engines), self._images, self._clock)

    def surroundings(self) -> Surroundings:
        """Return what belongs in the record and does not come from the run."""
        self._note_memory()
        return Surroundings(
            subject=self._subject,
            inputs=self._images.inputs,
            load=self._load,
            gpu=None if self._gpu is None else self._gpu.state(),
            device_bytes=self._taken,
            energy_counter=self._energy.counter,
        )

    def close(self) -> None:
        """Release the system; the record can still be taken."""
        self._note_memory()
        super().close()

    def _note_memory(self) -> None:
        """Note the memory of the device that the run took, unless the device is closed or failed."""
        with suppress(BackendError):
            free = self._free_bytes()
            if self._free is not None and free is not None:
                self._taken = self._free - free

    def _pipeline(self, device: Device, engines: Mapping[str, Engine]) -> Pipeline:
        return Pipeline(self._bundle, engines, device=device, options=self._target.options)

    def _free_bytes(self) -> int | None:
        """Return the free memory of the device; None if it is that of the process."""
        memory = getattr(self._device, "memory", None)  # only GPUs have their own
        return None if memory is None else int(memory()[0])
