# SPDX-License-Identifier: Apache-2.0
"""The pipeline with images in the memory of a GPU; kernels are counted and not run."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.devices.opened import GPUS, simulated_gpu
from tests.runtime.devices.test_interop import Interfaced, Packed
from tests.samples.plans import TENSORRT, write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.errors import InputError
from foveate.runtime import PipelineOptions
from foveate.runtime.devices import CpuDevice
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.pipeline import Pipeline

SHAPE = (64, 96, 3)
Opened = tuple[Pipeline, CudaDevice, Simulation]


@pytest.fixture(params=GPUS)
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    bundle = small_bundle(tmp_path / "small")
    write_plans(bundle, image_sizes=((96, 64),))
    with simulated_gpu(request.param) as (device, simulation):
        monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
        engines = open_tensorrt_engines(bundle, device, "tensorrt")
        with Pipeline(bundle, engines, device=device) as pipeline:
            yield pipeline, device, simulation
        assert simulation.conflicts == []
        assert set(simulation.live_bytes.values()) <= {0}


@pytest.mark.parametrize("kind", [Interfaced, Packed])
def test_an_image_is_copied_within_the_gpu(opened: Opened, kind: type[Interfaced | Packed]) -> None:
    pipeline, device, simulation = opened
    images = [kind(device, SHAPE) for _ in range(3)]
    for image in images:
        image.stream.synchronize()
    list(pipeline.stream(images))  # makes the slots
    start, first = len(simulation.streams.history), len(simulation.calls)
    assert len(list(pipeline.stream(images))) == 3
    copied = simulation.bytes_copied(start)
    assert copied["DtoD"] == 3 * 64 * 96 * 3
    assert copied["HtoD"] == 0
    assert simulation.calls_since(first)["cuGraphLaunch"] == 3
    assert pipeline.propose(images[0]) is not None


def test_tiles_of_an_image_are_copied_within_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = small_bundle(tmp_path / "small")
    write_plans(bundle)
    with simulated_gpu("cuda") as (device, simulation):
        monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
        engines = open_tensorrt_engines(bundle, device, "tensorrt")
        options = PipelineOptions(tiles=96, tile_overlap=32)
        with Pipeline(bundle, engines, device=device, options=options) as pipeline:
            image = Packed(device, (64, 160, 3))
            start, first = len(simulation.streams.history), len(simulation.calls)
            assert pipeline(image).masks.shape[1:] == (64, 160)
            # The whole image, and two tiles.
            assert simulation.calls_since(first)["cuMemcpy2DAsync"] == 3
            assert simulation.bytes_copied(start)["DtoD"] == 64 * (160 + 96 + 96) * 3
        assert simulation.conflicts == []


def test_an_image_on_the_cpu_and_one_on_the_gpu_share_a_slot(opened: Opened) -> None:
    pipeline, device, simulation = opened
    pipeline(np.zeros(SHAPE, np.uint8))
    first = len(simulation.calls)
    pipeline(Packed(device, SHAPE))
    assert simulation.calls_since(first)["cuStreamBeginCapture"] == 0


def test_a_bad_image_does_not_stop_the_others(opened: Opened) -> None:
    pipeline, device, _ = opened
    bad = Interfaced(device, SHAPE)
    bad.stream.synchronize()
    bad.changed = {"typestr": "<f4"}
    with pytest.raises(InputError, match="found float32 of shape"):
        pipeline(bad)
    pipeline(Packed(device, SHAPE))


def test_a_pipeline_on_the_cpu_refuses_an_image_on_a_gpu() -> None:
    with simulated_gpu("cuda") as (device, _):
        image = Packed(device)
        with pytest.raises(
            InputError, match="in the memory of a GPU.*with device='cuda', or copy the"
        ):
            CpuDevice().accept(image)
        image.stream.synchronize()


def test_results_on_the_gpu_occupy_their_slot_until_the_last_array_is_dropped(
    opened: Opened,
) -> None:
    pipeline, device, simulation = opened
    pipeline(Packed(device, SHAPE))  # makes the slot
    start = len(simulation.streams.history)
    result = pipeline(Packed(device, SHAPE), on_device=True)
    assert (result.height, result.width) == SHAPE[:2]
    assert result.windows.shape == (result.mask_logits.shape[0], 4)
    assert simulation.bytes_copied(start)["DtoH"] < 64_000
    last = result.windows
    del result
    occupied = [pipeline._slots.in_use]
    del last
    occupied.append(pipeline._slots.in_use)
    assert occupied == [1, 0]


def test_a_result_may_be_collected_while_the_pipeline_is_at_work(opened: Opened) -> None:
    """A garbage collection takes place in any thread, hence in one that holds the lock."""
    pipeline, _, simulation = opened
    results = [pipeline(np.zeros(SHAPE, np.uint8), on_device=True)]
    before = simulation.live_bytes

    def collect() -> None:
        with pipeline._lock:
            results.clear()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    pipeline(np.zeros(SHAPE, np.uint8))
    assert simulation.live_bytes == before


def test_a_result_that_is_dropped_in_a_forked_child_takes_no_lock(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may have held the lock at the fork; in the child nobody releases it."""
    pipeline, _, _ = opened
    result = pipeline(np.zeros(SHAPE, np.uint8), on_device=True)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_process", -1)
        patch.setattr(pipeline, "_lock", None)  # which cannot be taken
        del result
        gc.collect()
        assert pipeline._slots.in_use == 1
    pipeline._finish(None)
