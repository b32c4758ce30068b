# SPDX-License-Identifier: Apache-2.0
"""What an image of 640x480 costs with the shipped bundle on a simulated GPU.

Engines run; kernels are counted and not run.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from tests.budgets.budget import Budgets, Count
from tests.runtime.devices.opened import GPUS, simulated_gpu
from tests.samples.plans import TENSORRT, write_plans
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

from foveate.bundle import Bundle
from foveate.runtime.engines import tensorrt as module
from foveate.runtime.engines.tensorrt import open_tensorrt_engines
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.slot import Slot

HEIGHT, WIDTH = 480, 640
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
ALLOCATIONS = ("cuMemAlloc", "cuMemHostAlloc")
# Calls of CUDA's libraries in a process that has not used the driver before.
FIRST_CALLS = ("cuInit", "cuGetExportTable")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A pipeline that has processed an image, and what that image cost."""

    kind: str
    pipeline: Pipeline
    simulation: Simulation
    first: dict[str, Count]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped bundle with plans for the size of the image."""
    root = tmp_path_factory.mktemp("bundles") / "mini"
    shutil.copytree(Bundle.open("mini").root, root)
    bundle = Bundle.open(root)
    write_plans(bundle, image_sizes=((WIDTH, HEIGHT),))
    return bundle


@pytest.fixture(scope="module", params=GPUS)
def opened(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Opened]:
    with simulated_gpu(request.param, capacity=1 << 29) as (device, simulation):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
            patch.setattr(module, "find_runtime", lambda _: TENSORRT)
            engines = open_tensorrt_engines(bundle, device, "tensorrt")
        with Pipeline(bundle, engines, device=device) as pipeline:
            first = costs(pipeline, simulation)
            yield Opened(kind=request.param, pipeline=pipeline, simulation=simulation, first=first)
        assert simulation.conflicts == []
        assert set(simulation.live_bytes.values()) <= {0}


def costs(pipeline: Pipeline, simulation: Simulation) -> dict[str, Count]:
    """Count what the driver is asked for, and what the GPU does, for an image."""
    calls, tasks = len(simulation.calls), len(simulation.streams.history)
    pipeline(IMAGE)
    made, copied = simulation.calls_since(calls), simulation.bytes_copied(tasks)
    for name in FIRST_CALLS:
        del made[name]
    work = simulation.streams.history[tasks:]
    kernels = Counter(task.name for task in work if task.kind == "launch")
    # The simulated TensorRT names a plan by its first output.
    networks = pipeline.bundle.manifest.networks
    stages = {spec.outputs[0].name: stage for stage, spec in networks.items()}
    engines = Counter(stages[task.name] for task in work if task.name in stages)
    return {
        "driver calls": calls_of(made, ""),
        "waits": calls_of(made, "Synchronize"),
        "allocations": calls_of(made, *ALLOCATIONS),
        "memory of the GPU": Count(value=simulation.live_bytes["device"], unit="bytes"),
        "pinned memory": Count(value=simulation.live_bytes["pinned"], unit="bytes"),
        "copied to the GPU": Count(value=copied["HtoD"], unit="bytes"),
        "copied to the CPU": Count(value=copied["DtoH"], unit="bytes"),
        "copied within the GPU": Count(value=copied["DtoD"], unit="bytes"),
        "kernels": Count(value=kernels.total(), unit="launches", details=listed(kernels)),
        **{stage: Count(value=count, unit="runs") for stage, count in engines.items()},
    }


def calls_of(made: Counter[str], *parts: str) -> Count:
    """Count the calls of the driver whose names contain one of the parts."""
    found = Counter({name: n for name, n in made.items() if any(part in name for part in parts)})
    return Count(value=found.total(), unit="calls", details=listed(found))


def listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} x {count}" for name, count in sorted(counter.items()))


def test_the_first_image_costs_no_more_than_budgeted(opened: Opened, budgets: Budgets) -> None:
    budgets.check(f"the first image on {opened.kind}", opened.first)


def test_another_image_costs_no_more_than_budgeted(opened: Opened, budgets: Budgets) -> None:
    """Its work is one graph, which is one call."""
    budgets.check("another image on a GPU", costs(opened.pipeline, opened.simulation))


def test_a_wait_that_is_not_needed_is_found(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = Slot.synchronize
    monkeypatch.setattr(Slot, "synchronize", lambda slot: (wait(slot), wait(slot)))
    with pytest.raises(AssertionError, match=r"waits: 2 calls, budget 1 calls: \+1"):
        Budgets().check("another image on a GPU", costs(opened.pipeline, opened.simulation))
