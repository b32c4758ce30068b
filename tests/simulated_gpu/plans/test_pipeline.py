# SPDX-License-Identifier: Apache-2.0
"""The pipeline with engines of TensorRT on the simulated driver."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.runtime.devices.opened import GPUS, simulated_gpu
from tests.samples.plans import TENSORRT, write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.bundle import Bundle
from foveate.errors import BackendError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.loading import open_engines
from foveate.runtime.options import PipelineOptions
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.sizes import Sizes

pytest.importorskip("cuda.core", reason="needs the package cuda-core")

IMAGE = np.zeros((64, 96, 3), np.uint8)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedTensorRT]:
    with connected(Simulation(seed=0, run_kernels=False)) as simulation:  # kernels only count
        trt = SimulatedTensorRT(simulation)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
        yield trt


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = small_bundle(tmp_path_factory.mktemp("compiled") / "small")
    write_plans(bundle, image_sizes=((96, 64),))
    return bundle


def open_pipeline(bundle: Bundle) -> Pipeline:
    device = CudaDevice(code="ptx")
    return Pipeline(bundle, open_tensorrt_engines(bundle, device, "tensorrt"), device=device)


def test_contexts_and_memory_are_released_with_the_pipeline(
    compiled: Bundle, trt: SimulatedTensorRT
) -> None:
    with open_pipeline(compiled) as pipeline:
        pipeline(IMAGE)
        levels = Sizes.of(64, 96, compiled.manifest).levels
        assert len(trt.contexts) == len(levels) + 3  # refine, features and classify
    del pipeline
    gc.collect()
    assert len(trt.contexts) == trt.simulation.live_bytes["device"] == 0


def test_a_slot_of_other_sizes_is_released_where_memory_does_not_suffice(
    compiled: Bundle, trt: SimulatedTensorRT
) -> None:
    other = IMAGE[:62, :94]
    with open_pipeline(compiled) as pipeline:
        pipeline(IMAGE)
        contexts = len(trt.contexts)
        trt.simulation.memory.capacity = trt.simulation.live_bytes["device"] + 1000
        pipeline(other)
        assert len(trt.contexts) == contexts  # those of one slot
        pipeline(IMAGE)
    assert trt.simulation.conflicts == []


def test_an_image_is_one_graph(compiled: Bundle, trt: SimulatedTensorRT) -> None:
    with open_pipeline(compiled) as pipeline:
        pipeline(IMAGE)
        start = len(trt.simulation.calls)
        pipeline(IMAGE)
        calls = trt.simulation.calls_since(start)
    assert calls["cuGraphLaunch"] == 1
    assert calls.total() <= 5
    assert trt.simulation.conflicts == []


def test_a_size_without_a_plan_is_refused_with_the_command_that_compiles_it(
    compiled: Bundle, trt: SimulatedTensorRT, tmp_path: Path
) -> None:
    with open_pipeline(compiled) as pipeline:
        with pytest.raises(BackendError) as caught:
            pipeline(np.zeros((480, 480, 3), np.uint8))
        assert len(pipeline([IMAGE, IMAGE])) == 2  # it goes on with others
    command = f"foveate compile {compiled.root} --target tensorrt --image-size 96x96 --bucket 8"
    assert caught.value.remedy == f"run: {command}"
    assert caught.value.what == (
        "no compiled plan of the stage 'propose' takes image 1x3x256x256 (the engine "
        "'propose-96x64' takes image 1x3x224x256)"
    )


def test_another_thread_may_be_the_first_to_use_the_pipeline(
    compiled: Bundle, trt: SimulatedTensorRT
) -> None:
    with open_pipeline(compiled) as pipeline, ThreadPoolExecutor(1) as pool:
        assert len(pool.submit(pipeline, [IMAGE, IMAGE]).result()) == 2


@pytest.mark.parametrize("kind", GPUS)
def test_detections_are_those_of_the_cpu(
    kind: str, compiled: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kernels run, so that it takes seconds."""
    image = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, IMAGE.shape, np.uint8), (9, 9), 3
    )
    images = [cv2.circle(image, (48, 32), 20, (220, 60, 40), -1), image[:, ::-1], IMAGE]
    options = PipelineOptions(score_threshold=1e-3)
    cpu = CpuDevice()
    engines = open_engines(compiled, cpu, "onnxruntime", 1)
    with Pipeline(compiled, engines, device=cpu, options=options) as pipeline:
        expected = pipeline(images)
    assert sum(map(len, expected)) > 3
    with simulated_gpu(kind, run_kernels=True) as (device, simulation):
        monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
        engines = open_tensorrt_engines(compiled, device, "tensorrt")
        with Pipeline(compiled, engines, device=device, options=options) as pipeline:
            found = pipeline(images)
        assert simulation.conflicts == []
    for one, other in zip(found, expected, strict=True):
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(one.masks), np.asarray(other.masks))
