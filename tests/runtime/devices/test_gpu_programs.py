# SPDX-License-Identifier: Apache-2.0
"""Programs of a GPU on the simulated driver: calls, memory, captures and their refusals."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.runtime.devices.opened import FLOAT, GPUS, Gathering, gathered, simulated_gpu
from tests.simulated_gpu.driver.faults import Status
from tests.simulated_gpu.driver.graph import Executable
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.driver.work import Event, Stream

from foveate.errors import BackendError
from foveate.runtime.devices import cuda_program
from foveate.runtime.devices.cuda import CudaDevice

Gpu = tuple[CudaDevice, Simulation]
CURRENT = {"cuda": "cuCtxSetCurrent", "pycuda": "cuCtxGetCurrent"}


@pytest.fixture(params=GPUS)
def gpu(request: pytest.FixtureRequest) -> Iterator[Gpu]:
    with simulated_gpu(request.param) as opened:
        yield opened


@pytest.fixture(params=GPUS)
def computing(request: pytest.FixtureRequest) -> Iterator[Gpu]:
    """A GPU whose kernels are interpreted."""
    cuda_program.report_once.cache_clear()
    with simulated_gpu(request.param, run_kernels=True) as opened:
        yield opened


def test_a_launch_costs_five_calls_after_the_first(gpu: Gpu) -> None:
    device, simulation = gpu
    gathering = Gathering(device)
    gathering.run()
    for _ in range(3):
        start = len(simulation.calls)
        gathering.run()
        assert [call.name for call in simulation.calls[start:]] == [
            CURRENT[device.name],
            "cuMemcpyAsync",
            "cuGraphLaunch",
            "cuEventRecord",
            "cuEventSynchronize",
        ]


def test_kernels_are_looked_up_once(gpu: Gpu) -> None:
    device, simulation = gpu
    for _ in range(3):
        Gathering(device, capturable=False).run()
    assert simulation.calls_since(0)["cuLibraryLoadData"] == 1
    assert simulation.calls_since(0)["cuLibraryGetKernel"] == 1


def test_launches_without_a_graph_allocate_nothing(gpu: Gpu) -> None:
    device, simulation = gpu
    gathering = Gathering(device, capturable=False)
    gathering.run()
    before, start = simulation.live_bytes, len(simulation.calls)
    events = simulation.count(Event)
    for _ in range(5):
        gathering.run()
    assert simulation.live_bytes == before
    assert not {"cuMemAllocAsync", "cuMemHostAlloc"} & set(simulation.calls_since(start))
    assert simulation.count(Event) <= events + 2


def test_tables_are_uploaded_once(gpu: Gpu) -> None:
    device, simulation = gpu
    table = np.arange(5, dtype=np.float32)
    seen = []

    def take(gathering: Gathering) -> None:
        scratch = device.launching.scratch
        seen.append((scratch.empty((3,), np.int32).address, scratch.upload(table).address))

    gathering = Gathering(device, each_pass=take, capturable=False)
    for _ in range(3):
        gathering.run()
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert simulation.bytes_copied()["HtoD"] == 20 + 8 + 3 * 64


def test_a_pass_must_ask_for_the_memory_of_the_first_one(gpu: Gpu) -> None:
    device, _ = gpu
    sizes = iter([3, 4])

    def take(gathering: Gathering) -> None:
        device.launching.scratch.empty((next(sizes),), np.float32)

    with pytest.raises(
        AssertionError, match=r"a pass asked for float32\[4\], the first one for .*3"
    ):
        Gathering(device, each_pass=take).run()


@pytest.mark.parametrize("counts", [[1, 0], [1, 2]])
def test_a_pass_must_ask_for_as_many_pieces_as_the_first_one(gpu: Gpu, counts: list[int]) -> None:
    device, _ = gpu
    left = iter(counts)

    def take(gathering: Gathering) -> None:
        for _ in range(next(left)):
            device.launching.scratch.empty((3,), np.float32)

    with pytest.raises(AssertionError, match="(fewer|more) pieces than the first one"):
        Gathering(device, each_pass=take).run()


@pytest.mark.parametrize(
    "entry", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_a_refused_capture_is_reported_once_and_plain_launches_follow(
    computing: Gpu, entry: str, caplog: pytest.LogCaptureFixture
) -> None:
    device, simulation = computing
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            fault = simulation.fail(Status.CAPTURE_UNSUPPORTED, entry)
            gathering = Gathering(device)
            for first in (0, 5, 9):
                assert gathering.run(first) == gathered(first)
            assert fault.left == 0
    (record,) = caplog.records
    assert "is not recorded, which costs time" in record.getMessage()
    assert "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)" in record.getMessage()
    assert simulation.count(Executable) == 0
    assert simulation.conflicts == []


def test_a_forgotten_join_is_refused(
    computing: Gpu, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, _ = computing
    gathering = Gathering(device)
    monkeypatch.setattr(gathering.main, "wait", lambda _: None)
    gathering.run()
    assert "UNJOINED (904)" in caplog.text


def test_a_wait_for_the_gpu_inside_of_a_program_is_refused(
    computing: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    device, _ = computing
    gathering = Gathering(device, each_pass=lambda one: one.side.synchronize())
    for first in (0, 3):
        assert gathering.run(first) == gathered(first)
    assert "is not recorded" in caplog.text


# With PyCUDA, the context of the caller is current in one thread only.
@pytest.mark.parametrize("gpu", ["cuda"], indirect=True)
def test_another_thread_may_allocate_during_a_capture(gpu: Gpu) -> None:
    """Our capture is of the kind that calls of other threads do not break."""
    device, simulation = gpu

    def allocate(gathering: Gathering) -> None:
        thread = threading.Thread(target=lambda: device.allocate((5,), FLOAT))
        thread.start()
        thread.join()

    Gathering(device, each_pass=allocate).run()
    assert simulation.count(Executable) == 1


class Foreign:
    """Memory of another library, which frees it when it dies, such as PyCUDA."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        _, self.address = driver.cuMemAlloc(100)

    def __del__(self) -> None:
        (status,) = self._driver.cuMemFree(self.address)
        assert not int(status)


def test_the_garbage_collector_frees_no_memory_during_a_capture(gpu: Gpu) -> None:
    device, simulation = gpu
    garbage = [Foreign(device.context.driver) for _ in range(2)]
    before = simulation.live_bytes["device"]

    def collect(gathering: Gathering) -> None:
        cycle: list[object] = [garbage.pop()]
        cycle.append(cycle)
        del cycle
        assert len([[] for _ in range(5000)]) == 5000  # enough objects for the collector to run

    Gathering(device, each_pass=collect).run()
    assert simulation.count(Executable) == 1
    assert gc.isenabled()
    gc.collect()
    device.context.collect()
    assert simulation.live_bytes["device"] < before


def test_dropped_memory_is_freed_by_the_next_call_that_takes_some(gpu: Gpu) -> None:
    device, simulation = gpu
    buffer = device.allocate((1000,), FLOAT)
    before = simulation.live_bytes["device"]
    del buffer
    assert simulation.live_bytes["device"] == before
    device.stream()
    assert simulation.live_bytes["device"] == before - 4000
    free, total = device.memory()
    assert free == total - simulation.live_bytes["device"]


def test_memory_in_a_cycle_of_objects_is_found_when_there_is_no_more() -> None:
    with simulated_gpu("cuda", capacity=1 << 20) as (device, _):
        gc.disable()
        try:
            for _ in range(4):
                cycle: list[object] = [device.allocate((1 << 19,), np.dtype(np.uint8))]
                cycle.append(cycle)
        finally:
            gc.enable()


def test_two_threads_may_release_what_was_dropped_at_once() -> None:
    """Another thread takes the last resource after this one has seen it."""
    with simulated_gpu("cuda") as (device, simulation):

        class Contended(deque[tuple[Any, ...]]):
            def __bool__(self) -> bool:
                found = len(self) > 0
                if found and threading.current_thread() is threading.main_thread():
                    thread = threading.Thread(target=device.context.collect)
                    thread.start()
                    thread.join()
                return found

        device.context.dropped = Contended()
        before = simulation.live_bytes["device"]
        device.allocate((1000,), FLOAT)
        device.context.collect()
        assert simulation.live_bytes["device"] == before


def test_closing_releases_everything_in_order(gpu: Gpu) -> None:
    device, simulation = gpu
    gathering = Gathering(device)
    gathering.run()
    mapped = device.mapped((3,), FLOAT)
    device.close()
    device.close()
    assert mapped.buffer.shape == (3,)
    assert set(simulation.live_bytes.values()) <= {0}
    assert [simulation.count(kind) for kind in (Executable, Event, Stream)] == [0, 0, 0]
    with pytest.raises(BackendError, match="the device is closed: open it again"):
        gathering.run()


def test_a_refused_release_is_tried_again(gpu: Gpu) -> None:
    device, simulation = gpu
    gathering = Gathering(device)
    gathering.run()
    for entry in ("cuMemFreeAsync", "cuMemFreeHost", "cuStreamDestroy", "cuGraphExecDestroy"):
        simulation.fail(Status.INVALID_VALUE, entry)
    device.close()
    assert set(simulation.live_bytes.values()) <= {0}


def test_nothing_is_released_in_a_forked_child(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    device, simulation = gpu
    start = len(simulation.calls)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        device.close()
    assert len(simulation.calls) == start


def test_the_legacy_stream_is_never_used(gpu: Gpu) -> None:
    device, simulation = gpu
    gathering = Gathering(device)
    for _ in range(2):
        gathering.run()
    assert not simulation.streams.legacy.ends
    created = [call for call in simulation.calls if call.name.startswith("cuStreamCreate")]
    assert created
    assert not any(
        stream.blocking for stream in simulation.objects.values() if isinstance(stream, Stream)
    )


def test_a_thread_that_has_no_context_gets_ours() -> None:
    with simulated_gpu("cuda", run_kernels=True) as (device, _):
        gathering = Gathering(device)
        found = []
        thread = threading.Thread(target=lambda: found.append(gathering.run(3)))
        thread.start()
        thread.join()
        assert found == [gathered(3)]


def test_a_release_that_was_refused_is_tried_again_by_the_next_call(gpu: Gpu) -> None:
    device, simulation = gpu
    buffer = device.allocate((1000,), FLOAT)
    before = simulation.live_bytes["device"]
    del buffer
    simulation.fail(Status.INVALID_VALUE, "cuMemFreeAsync")
    with pytest.raises(BackendError, match="refused a call: cuMemFreeAsync"):
        device.stream()
    device.stream()
    assert simulation.live_bytes["device"] == before - 4000
