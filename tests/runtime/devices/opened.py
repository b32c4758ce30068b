# SPDX-License-Identifier: Apache-2.0
"""The devices, those with a GPU on the simulated driver, and small programs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.samples.kernel_compilers import require_compiler
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.kernels.nms.op import GATHER_BOXES
from foveate.runtime.devices import Device, Mirror, Program, Stream
from foveate.runtime.devices.cuda import CudaDevice

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int32)
GPUS = ("cuda", "pycuda")


@contextmanager
def simulated_gpu(
    kind: str,
    *,
    debug: bool = False,
    run_kernels: bool = False,
    capacity: int = 1 << 27,
    seed: int = 0,
) -> Iterator[tuple[CudaDevice, Simulation]]:
    """Open a GPU on a simulated driver; the test must close it for the bytes to be counted."""
    require_compiler()
    simulation = Simulation(seed=seed, run_kernels=run_kernels, capacity=capacity)
    with connected(simulation), context_of(kind):
        device = open_gpu(kind, debug=debug)
        yield device, simulation
        device.close()


def open_gpu(kind: str, *, debug: bool = False) -> CudaDevice:
    """Open a device by name."""
    if kind == "cuda":
        return CudaDevice(code="ptx", debug=debug)
    from foveate.runtime.devices.pycuda import PycudaDevice

    return PycudaDevice(code="ptx", debug=debug)


@contextmanager
def context_of(kind: str) -> Iterator[None]:
    """Make a context of PyCUDA current, if the device borrows one."""
    if kind == "cuda":
        pytest.importorskip("cuda.core", reason="needs the package cuda-core")
        yield
        return
    cuda = pytest.importorskip("pycuda.driver", reason="needs the package pycuda")
    cuda.init()
    context = cuda.Device(0).make_context()
    try:
        yield
    finally:
        context.pop()
        context.detach()


class Gathering:
    """A program with one operation on one stream, and a copy that joins it on another one.

    Args:
        device: The device.
        capturable: Whether it may be recorded.
        each_pass: Called whenever the work is enqueued.
    """

    def __init__(
        self,
        device: Device,
        *,
        capturable: bool = True,
        each_pass: Callable[[Gathering], None] = lambda _: None,
    ) -> None:
        self.device = device
        self.main: Stream = device.stream()
        self.side: Stream = device.stream()
        self.boxes: Mirror = device.mirror((4, 4), FLOAT)
        self.keep: Mirror = device.mirror((2,), INT)
        self.found: Mirror = device.mirror((2, 4), FLOAT)
        self.keep.array[:] = [2, 0]
        self.keep.send(self.main)
        self._each_pass = each_pass
        self.program: Program = device.program(
            [self.main, self.side], self._enqueue, capturable=capturable
        )

    def _enqueue(self) -> None:
        self.side.wait(self.main.record())
        buffers = (self.boxes.buffer, self.keep.buffer, self.found.buffer)
        frame = {"horizontal": 2.0, "vertical": 0.5, "offset": 3.0}
        self.device.launch(GATHER_BOXES, self.side, *buffers, **frame)
        self._each_pass(self)
        self.main.wait(self.side.record())
        self.found.fetch(self.main)

    def run(self, first: float = 0.0) -> list[list[float]]:
        """Send boxes that count from a number; return those that were gathered."""
        self.boxes.array[:] = first + np.arange(16).reshape(4, 4)
        self.boxes.send(self.main)
        self.program.launch().synchronize()
        found: list[list[float]] = self.found.array.tolist()
        return found


def gathered(first: float = 0.0) -> list[list[float]]:
    """Return what `Gathering.run` must return."""
    boxes = (first + np.arange(16).reshape(4, 4)) * [2.0, 0.5, 2.0, 0.5] + 3.0
    taken: list[list[float]] = boxes[[2, 0]].tolist()
    return taken
