# SPDX-License-Identifier: Apache-2.0
"""The memory that the stage propose works on, and what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.bundle import Bundle
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import Engine

FLOAT = np.dtype(np.float32)
Buffers = dict[str, Any]


def buffers_of(device: CudaDevice, engine: Engine, height: int, width: int) -> Buffers:
    """Allocate the image and the outputs of propose."""
    lengths = {"height": height, "width": width}
    return {
        one.name: device.allocate(
            tuple(side if isinstance(side, int) else eval(side, {}, lengths) for side in one.shape),  # noqa: S307 - our own bundle
            FLOAT,
        )
        for one in (*engine.inputs, *engine.outputs)
    }


def write(simulation: Simulation, buffer: Any, values: np.ndarray) -> None:
    found = simulation.memory.bytes_at(buffer.address, values.nbytes, write=True)
    found.view(values.dtype).reshape(values.shape)[...] = values
    simulation.memory.take_accesses()  # it is not work of the GPU


def read(simulation: Simulation, buffer: Any) -> np.ndarray:
    size = int(np.prod(buffer.shape)) * buffer.dtype.itemsize
    found = simulation.memory.bytes_at(buffer.address, size, write=False)
    simulation.memory.take_accesses()
    return np.array(found.view(buffer.dtype).reshape(buffer.shape))


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, height, width)).astype(np.float32)


def expected(bundle: Bundle, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(
        bundle.stage_path("propose"), providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))
