# SPDX-License-Identifier: Apache-2.0
"""Faults that the checks of operations must find, planted on a simulated GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.arrays import Array
from foveate.runtime.devices.cuda import CudaDevice
from foveate.selftest import machine, operations
from foveate.selftest.cases import CASES
from foveate.selftest.checks import Check, Checks, read_checks, record_checks
from foveate.selftest.running import Call, PreparedCall

pytest.importorskip("cuda.core", reason="needs the package cuda-core")


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """A GPU that the checks open, with one operation to check."""
    with connected(Simulation("sm_76")) as simulation:
        device = CudaDevice()
        for module in (machine, operations):
            monkeypatch.setattr(module, "gpu", lambda: device)
        monkeypatch.setattr(operations, "CASES", {"take_masks": CASES["take_masks"]})
        monkeypatch.setattr(operations, "SCALES", (1,))
        yield simulation
        device.close()


def result_of(checks: Checks, folder: Path) -> Check:
    record_checks(checks, folder / "record")
    (check,) = read_checks(folder / "record", "")
    return check


def test_another_result_than_on_the_cpu_fails(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def wrong(generator: np.random.Generator, scale: int) -> Call:
        call = CASES["take_masks"](generator, scale)

        def cpu(logits: Array, rows: Array, found: Array, taken: Array) -> None:
            call.op.cpu(logits, rows, found, taken)
            taken.reshape(-1)[7] += 0.25

        return replace(call, op=replace(call.op, cpu=cpu))

    monkeypatch.setattr(operations, "CASES", {"take_masks": wrong})
    check = result_of(operations.operation_checks("mini"), tmp_path)
    assert (check.name, check.status) == ("take_masks, size 1", "failed")
    assert check.reason == "expected a difference of at most 0, found 0.25"


def test_work_that_the_driver_does_not_record_fails(simulation: Simulation, tmp_path: Path) -> None:
    simulation.fail(801, "cuStreamBeginCapture")
    check = result_of(operations.capture_checks("mini"), tmp_path)
    assert check.status == "failed"
    assert check.reason == "the driver refused to record it; the log has the reason"


def test_a_graph_that_gives_other_values_fails(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = iter([0.0, 0.5])
    monkeypatch.setattr(
        PreparedCall,
        "run",
        lambda self: [self.program.launch().synchronize() or np.array([next(values)])],
    )
    check = result_of(operations.capture_checks("mini"), tmp_path)
    assert check.reason == "the graph gives other values, the largest difference is 0.5"


def test_times_stand_beside_predictions(simulation: Simulation, tmp_path: Path) -> None:
    operations._bandwidth.cache_clear()
    simulation.run_kernels = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "copy_bandwidth", lambda _: 1e9)
        check = result_of(operations.time_checks("mini"), tmp_path)
    operations._bandwidth.cache_clear()
    assert check.status == "passed"
    assert check.facts["predicted_microseconds"] == check.facts["bytes"] / 1e3
