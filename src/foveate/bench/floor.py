# SPDX-License-Identifier: Apache-2.0
"""A pipeline that does nothing, which shows what the harness and the calls of the host cost.

It has the slots, streams and results of a real pipeline, and runs on the CPU. Its operations and
networks return at once, so that it finds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.runtime.devices import CpuDevice
from foveate.runtime.devices.cpu import CpuBuffer, cpu_stream
from foveate.runtime.engines.cpu import CpuEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.arrays import Array
    from foveate.bundle import Manifest
    from foveate.kernels.op import Op
    from foveate.runtime.devices import Buffer, Stream
    from foveate.runtime.engines import Engine


class NullDevice(CpuDevice):
    """The CPU, whose operations do nothing."""

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> CpuBuffer:
        """Return memory of zeros, so that all counts of results are 0."""
        return CpuBuffer(np.zeros(shape, dtype))

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue a function that does nothing."""
        del op, buffers, numbers
        cpu_stream(stream).enqueue(_do_nothing)


class NullEngine(CpuEngine):
    """An engine that leaves its outputs as they are."""

    def run(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def null_engines(manifest: Manifest) -> dict[str, Engine]:
    """Return engines that do nothing, for all networks of a bundle."""
    return {
        name: NullEngine(manifest.stages[name].inputs, manifest.stages[name].outputs)
        for name in manifest.networks
    }


def _do_nothing() -> None:
    pass
