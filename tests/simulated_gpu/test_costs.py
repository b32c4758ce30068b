# SPDX-License-Identifier: Apache-2.0
"""What an image of 640x480 costs with the shipped bundle on a simulated GPU.

Engines run; kernels are counted and not run.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.devices.opened import GPUS, simulated_gpu
from tests.samples.plans import TENSORRT, write_plans
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.bundle import Bundle
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.pipeline import Pipeline

HEIGHT, WIDTH = 480, 640


@pytest.mark.parametrize("kind", GPUS)
def test_an_image_costs_five_calls_one_wait_and_the_transfer_of_the_image(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Bundle.open("mini").root, tmp_path / "mini")
    bundle = Bundle.open(tmp_path / "mini")
    write_plans(bundle, image_sizes=((WIDTH, HEIGHT),))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with simulated_gpu(kind, capacity=1 << 29) as (device, simulation):
        trt = SimulatedTensorRT(simulation)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
        engines = open_tensorrt_engines(bundle, device, "tensorrt")
        with Pipeline(bundle, engines, device=device) as pipeline:
            pipeline(image)
            assert len(trt.contexts) == len(bundle.manifest.pyramid.scales) + 3
            calls, tasks = len(simulation.calls), len(simulation.streams.history)
            live = simulation.live_bytes
            pipeline(image)
            made, copied = simulation.calls_since(calls), simulation.bytes_copied(tasks)
            assert simulation.live_bytes == live
        assert made.total() <= 5
        assert made["cuGraphLaunch"] == made["cuEventSynchronize"] == 1
        assert copied["HtoD"] == image.nbytes
        assert copied["DtoH"] <= 64_000
        assert simulation.conflicts == []
        assert set(simulation.live_bytes.values()) <= {0}
