# SPDX-License-Identifier: Apache-2.0
"""Errors of a GPU on the simulated driver: no memory, a refused call, a GPU that stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.runtime.devices.opened import FLOAT, GPUS, Gathering, gathered, simulated_gpu
from tests.simulated_gpu.driver.faults import Status

from foveate.errors import BackendError, OutOfMemoryError
from foveate.runtime.devices.cuda_context import load_module

STICKY = [Status.ILLEGAL_ADDRESS, Status.MISALIGNED_ADDRESS, Status.LAUNCH_FAILED]
RESTART = "stopped, and this process cannot use it any longer.*: restart the process$"


@pytest.mark.parametrize("kind", GPUS)
@pytest.mark.parametrize("entry", ["cuMemAllocAsync", "cuMemHostAlloc"])
def test_without_memory_the_next_attempt_may_succeed(kind: str, entry: str) -> None:
    with simulated_gpu(kind, run_kernels=True) as (device, simulation):
        faults = [simulation.fail(Status.OUT_OF_MEMORY, entry) for _ in range(2)]
        with pytest.raises(OutOfMemoryError, match=r"out of memory: cuMem.*\(2\): use a smaller"):
            device.mirror((5,), FLOAT)
        assert [fault.left for fault in faults] == [0, 0]
        assert Gathering(device).run() == gathered()


@pytest.mark.parametrize("kind", GPUS)
@pytest.mark.parametrize(
    "entry", ["cuGraphLaunch", "cuEventRecord", "cuEventSynchronize", "cuMemcpyAsync"]
)
def test_a_refused_call_concerns_one_launch(kind: str, entry: str) -> None:
    with simulated_gpu(kind, run_kernels=True) as (device, simulation):
        gathering = Gathering(device)
        gathering.run()
        simulation.fail(Status.INVALID_VALUE, entry)
        with pytest.raises(BackendError, match=rf"refused a call: {entry} failed with .*\(1\)"):
            gathering.run(1)
        assert gathering.run(2) == gathered(2)


@pytest.mark.parametrize("kind", GPUS)
@pytest.mark.parametrize("status", STICKY)
def test_a_gpu_that_stopped_is_not_used_again(kind: str, status: Status) -> None:
    with simulated_gpu(kind) as (device, simulation):
        gathering = Gathering(device)
        gathering.run()
        simulation.fail(status, "cuEventSynchronize")
        with pytest.raises(BackendError, match=rf"\({status}\); --debug names the kernel: "):
            gathering.run()
        start = len(simulation.calls)
        for use in (gathering.run, device.stream, device.memory, lambda: Gathering(device)):
            with pytest.raises(BackendError, match=RESTART):
                use()
        device.close()
        assert len(simulation.calls) == start


def test_a_package_without_the_library_that_it_needs_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyCUDA is linked with the driver."""
    (tmp_path / "linked_package.py").write_text("raise ImportError('libcuda.so.1: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError) as caught:
        load_module("linked_package")
    assert str(caught.value) == (
        "the module 'linked_package' does not load (libcuda.so.1: no such file): `foveate doctor` "
        "shows what works here; device='cpu' needs no GPU"
    )


@pytest.mark.parametrize("kind", GPUS)
def test_debugging_names_the_kernel(kind: str) -> None:
    with simulated_gpu(kind, debug=True) as (device, simulation):
        gathering = Gathering(device)
        gathering.run()
        # The first wait is for what came before the kernel, the second one is for the kernel.
        simulation.fail(Status.LAUNCH_FAILED, "cuStreamSynchronize", nth=2)
        with pytest.raises(BackendError, match="the last kernel was foveate_gather_boxes: restart"):
            gathering.run()


@pytest.mark.parametrize("kind", GPUS)
def test_debugging_tells_an_error_after_the_kernel(kind: str) -> None:
    with simulated_gpu(kind, debug=True) as (device, simulation):
        gathering = Gathering(device)
        gathering.run()
        simulation.fail(Status.LAUNCH_FAILED, "cuEventSynchronize")
        with pytest.raises(BackendError, match="foveate_gather_boxes, which had ended: restart"):
            gathering.run()


@pytest.mark.parametrize("kind", GPUS)
def test_debugging_records_nothing(kind: str) -> None:
    with simulated_gpu(kind, debug=True, run_kernels=True) as (device, simulation):
        gathering = Gathering(device)
        for first in (0, 4):
            assert gathering.run(first) == gathered(first)
        assert "cuStreamBeginCapture" not in simulation.calls_since(0)


@pytest.mark.parametrize("kind", GPUS)
def test_a_fault_at_any_call_leaves_no_memory(kind: str) -> None:
    with simulated_gpu(kind) as (device, simulation):
        Gathering(device).run()  # loads the kernels
        start = len(simulation.calls)
        Gathering(device).run()
        count = len(simulation.calls) - start
        for nth in range(1, count + 1):
            fault = simulation.fail(Status.INVALID_VALUE, nth=nth)
            try:
                gathering = Gathering(device)
                gathering.run()
            except BackendError as error:
                assert "refused a call" in str(error)  # noqa: PT017 - some calls fail silently
            fault.left = 0  # a call that was not made
            for stream in [one for one in device.context.alive if one[0] == "cuStreamDestroy"]:
                device.context.call("cuStreamSynchronize", stream[1])
        device.close()
        assert set(simulation.live_bytes.values()) <= {0}


@pytest.mark.parametrize("kind", GPUS)
def test_a_context_that_was_destroyed_is_told(kind: str) -> None:
    with simulated_gpu(kind) as (device, simulation):
        gathering = Gathering(device)
        simulation.fail(Status.CONTEXT_IS_DESTROYED, "cuMemcpyAsync")
        for _ in range(2):
            with pytest.raises(BackendError, match=r"was destroyed: .*\(709\): load the pipeline"):
                gathering.run()


def test_a_driver_without_a_function_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated_gpu("cuda") as (device, _):

        def missing(*_: object) -> None:
            raise RuntimeError("function cuMemGetInfo is not found")

        with monkeypatch.context() as patch:
            patch.setattr(device.context.driver, "cuMemGetInfo", missing)
            with pytest.raises(BackendError, match="no function cuMemGetInfo: .*: update the NVI"):
                device.memory()
