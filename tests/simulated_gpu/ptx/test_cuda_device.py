# SPDX-License-Identifier: Apache-2.0
"""The CUDA device on the real cuda-core, over the simulated driver."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from tests.gpu.operations import CASES, assert_right, run_call
from tests.kernels.every_op import OPS
from tests.samples.kernel_compilers import require_compiler
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.errors import BackendError, MissingExtraError, OptionError
from foveate.kernels import Op
from foveate.kernels.nms.op import NMS
from foveate.runtime.devices import cuda_context
from foveate.runtime.devices.cuda import CudaDevice
from foveate.selftest import timing
from foveate.system.gpu import current_gpu

FLOAT = np.dtype(np.float32)


@pytest.fixture
def device(simulated: Simulation) -> Iterator[CudaDevice]:
    require_compiler()
    opened = CudaDevice(code="ptx")
    yield opened
    opened.close()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_operations_give_the_results_of_the_cpu(
    device: CudaDevice, simulated: Simulation, case: str, seed: int
) -> None:
    assert_right(device, CASES[case](np.random.default_rng(seed), 1))
    assert simulated.launched
    assert simulated.conflicts == []


def test_every_operation_has_a_case() -> None:
    called = {make(np.random.default_rng(0), 1).op.name for make in CASES.values()}
    assert called >= {op.name for op in OPS}


def test_an_operation_without_kernels_is_an_error(device: CudaDevice) -> None:
    bare = Op("bare", cpu=NMS.cpu, outputs=())
    with pytest.raises(BackendError, match="'bare' has no GPU kernels: run it on the CPU"):
        device.launch(bare, device.stream())


def test_a_size_beyond_one_launch_is_an_error(device: CudaDevice) -> None:
    many = device.allocate((70000, 4), FLOAT)
    few = device.allocate((1,), np.dtype(np.int32))
    stream = device.stream()
    program = device.program(
        [stream],
        lambda: device.launch(NMS, stream, many, many, few, few, few, iou=0.5),
        capturable=True,
    )
    with pytest.raises(OptionError, match="take at most 65,536 boxes, found 70,000: use a smaller"):
        program.launch()


def test_parts_and_views_share_memory(device: CudaDevice) -> None:
    stream = device.stream()
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6)
    mirror = device.mirror((4, 6), FLOAT)
    mirror.array[...] = numbers
    mirror.send(stream)
    buffer = mirror.buffer
    assert buffer.part(1, 3).shape == (2, 6)
    for view, want in (
        (buffer.part(1, 3), numbers[1:3]),
        (buffer.part(2, 9), numbers[2:9]),
        (buffer.part(1, 4).view((2, 3), FLOAT), numbers[1].reshape(2, 3)),
        (buffer.view((5,), np.dtype(np.uint8)), numbers.view(np.uint8).reshape(-1)[:5]),
    ):
        found = device.mirror(want.shape, view.dtype)
        device.copy(view, found.buffer, stream)
        found.fetch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(found.array, want)
    assert buffer.part(3, 1).shape == (0, 6)
    assert buffer.part(1, 3).__cuda_array_interface__ == {
        "shape": (2, 6),
        "typestr": "<f4",
        "data": (buffer.address + 24, False),
        "version": 3,
    }


def test_events_order_streams_and_take_time(device: CudaDevice) -> None:
    first, second = device.stream(), device.stream()
    begin = first.record(timed=True)
    second.wait(first.record())
    end = second.record(timed=True)
    end.synchronize()
    assert end.milliseconds_since(begin) == 0
    assert first.__cuda_stream__() == (0, first.handle)


def test_kernels_are_loaded_once(device: CudaDevice, simulated: Simulation) -> None:
    call = CASES["gather_boxes"](np.random.default_rng(0), 1)
    run_call(device, call)
    run_call(device, call)
    assert simulated.calls_since(0)["cuLibraryLoadData"] == 1


def test_the_report_of_times_runs(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(timing, "REPEATS", 1)
    assert timing.copy_bandwidth(device, 1 << 10) == 2 * 1024 / 1e-9  # no time passes here
    for make in CASES.values():
        timing.seconds_of(device, make(np.random.default_rng(0), 1))
    take = CASES["gather_boxes"](np.random.default_rng(0), 1)
    moved = sum(a.nbytes for a in take.inputs if isinstance(a, np.ndarray)) + 30 * 4 * 4
    assert timing.seconds_of(device, take) == (0, moved)


def test_without_a_driver_the_error_states_what_to_do() -> None:
    pytest.importorskip("cuda.core", reason="needs the package cuda-core")
    if current_gpu() is not None:
        pytest.skip("needs a machine without a GPU")
    with pytest.raises(BackendError, match="the GPU 0 cannot be used .*foveate doctor"):
        CudaDevice()


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    cuda_context.load_module.cache_clear()
    with pytest.raises(MissingExtraError, match=r"'cuda.core' is not installed.*foveate\[cuda\]"):
        CudaDevice()
