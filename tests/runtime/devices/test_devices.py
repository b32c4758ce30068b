# SPDX-License-Identifier: Apache-2.0
"""What all devices have in common; those with a GPU run on the simulated driver."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.runtime.devices.opened import FLOAT, GPUS, Gathering, gathered, simulated_gpu

from foveate.errors import OutOfMemoryError
from foveate.runtime.devices import CpuDevice, Device


@pytest.fixture(params=["cpu", *GPUS])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "cpu":
        yield CpuDevice()
        return
    with simulated_gpu(request.param, run_kernels=True) as (gpu, simulation):
        yield gpu
        gpu.close()
        assert simulation.conflicts == []
        assert set(simulation.live_bytes.values()) <= {0}


@pytest.mark.parametrize("capturable", [True, False])
def test_each_launch_works_on_what_was_sent(device: Device, capturable: bool) -> None:
    gathering = Gathering(device, capturable=capturable)
    for first in (0, 100, 200):
        assert gathering.run(first) == gathered(first)


def test_programs_are_independent(device: Device) -> None:
    first, second = Gathering(device), Gathering(device)
    for number in range(3):
        first.boxes.array[:] = number
        second.boxes.array[:] = number + 10
        events = []
        for one in (first, second):
            one.boxes.send(one.main)
            events.append(one.program.launch())
        for event in events:
            event.synchronize()
        assert first.found.array[0].tolist() == [2 * number + 3, number / 2 + 3] * 2
        assert second.found.array[0].tolist() == [2 * number + 23, number / 2 + 8] * 2


def test_mapped_memory_is_written_without_a_copy(device: Device) -> None:
    gathering = Gathering(device)
    gathering.found = device.mapped((2, 4), FLOAT)
    for first in (0, 7):
        assert gathering.run(first) == gathered(first)


def test_views_and_parts_share_memory(device: Device) -> None:
    stream, mirror = device.stream(), device.mirror((4, 6), FLOAT)
    buffer = mirror.buffer
    assert buffer.part(1, 3).shape == (2, 6)
    assert buffer.part(2, 9).shape == (2, 6)
    assert buffer.part(3, 1).shape == (0, 6)
    assert buffer.part(1, 4).view((2, 3), FLOAT).dtype == FLOAT
    assert buffer.view((5,), np.dtype(np.uint8)).shape == (5,)
    with pytest.raises(AssertionError, match="needs 100 bytes"):
        buffer.view((25,), FLOAT)
    stream.synchronize()


def test_too_much_memory_is_an_error_with_a_remedy(device: Device) -> None:
    for take in (device.allocate, device.mirror, device.mapped):
        with pytest.raises(OutOfMemoryError, match="use a smaller image, top_k, max_side or max_"):
            take((1 << 60,), FLOAT)


def test_memory_is_aligned(device: Device) -> None:
    for size in (1, 5, 1000):
        buffer = device.allocate((size,), np.dtype(np.uint8))
        assert getattr(buffer, "address", 0) % 256 == 0
