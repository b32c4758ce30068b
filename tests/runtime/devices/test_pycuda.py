# SPDX-License-Identifier: Apache-2.0
"""The device that borrows a context of PyCUDA, on the simulated driver."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.runtime.devices.opened import FLOAT, Gathering, gathered, open_gpu, simulated_gpu
from tests.simulated_gpu.driver.faults import Status
from tests.simulated_gpu.driver.library import connected
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.errors import BackendError, InputError, MissingExtraError
from foveate.runtime.devices import cuda_context


@pytest.fixture
def pycuda(simulated: None) -> object:
    return pytest.importorskip("pycuda.driver", reason="needs the package pycuda")


@pytest.fixture
def simulated() -> Iterator[None]:
    with connected(Simulation()):
        yield


def test_without_a_context_the_error_states_how_to_get_one(pycuda: object) -> None:
    with pytest.raises(BackendError, match="no context of PyCUDA is current .*pycuda.autoinit, or"):
        open_gpu("pycuda")


def test_no_context_is_made_current_or_destroyed() -> None:
    with simulated_gpu("pycuda") as (device, simulation):
        start = len(simulation.calls)
        Gathering(device).run()
        device.close()
        names = set(simulation.calls_since(start))
        assert {name for name in names if name.startswith("cuCtx")} == {"cuCtxGetCurrent"}
        assert not {name for name in names if "Primary" in name}


def test_a_context_that_is_not_current_is_an_error() -> None:
    with simulated_gpu("pycuda", run_kernels=True) as (device, _):
        import pycuda.driver as cuda

        gathering = Gathering(device)
        assert gathering.run() == gathered()
        context = cuda.Context.get_current()
        cuda.Context.pop()
        with pytest.raises(
            BackendError, match=r"not current in this thread: .*0x0: push it before"
        ):
            gathering.run()
        context.push()
        assert gathering.run(1) == gathered(1)


def test_nothing_is_released_in_a_context_that_is_gone() -> None:
    with simulated_gpu("pycuda") as (device, simulation):
        import pycuda.driver as cuda

        Gathering(device).run()
        context = cuda.Context.get_current()
        cuda.Context.pop()
        start = len(simulation.calls)
        device.close()
        assert list(simulation.calls_since(start)) == ["cuCtxGetCurrent"]
        context.push()
        with pytest.raises(BackendError, match="the device is closed"):
            device.stream()


def test_results_are_arrays_of_pycuda() -> None:
    with simulated_gpu("pycuda") as (device, _):
        mirror, owner = device.mirror((2, 3), FLOAT), object()
        mirror.array[:] = np.arange(6).reshape(2, 3)
        stream = device.stream()
        mirror.send(stream)
        stream.synchronize()
        shared = device.share(mirror.buffer, owner)
        assert type(shared).__name__ == "GPUArray"
        assert shared.get().tolist() == mirror.array.tolist()
        assert shared.base[1] is owner


def test_an_array_of_pycuda_is_an_image_until_it_is_freed() -> None:
    with simulated_gpu("pycuda") as (device, simulation):
        from pycuda import gpuarray

        pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
        array = gpuarray.to_gpu(pixels)
        image = device.accept(array)
        assert image is not None
        target, stream = device.mirror(image.shape, pixels.dtype), device.stream()
        image.copy_to(target.buffer, stream)
        target.fetch(stream)
        stream.synchronize()
        assert target.array.tolist() == pixels.tolist()
        assert simulation.conflicts == []
        array.gpudata.free()
        with pytest.raises(InputError, match="the image is freed or does not lie in the memory"):
            device.accept(array)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
    cuda_context.load_module.cache_clear()
    with pytest.raises(MissingExtraError, match=r"'pycuda.driver' .* 'foveate\[pycuda\]'"):
        open_gpu("pycuda")


def test_nothing_is_written_to_memory_of_a_context_that_is_gone() -> None:
    with simulated_gpu("pycuda") as (device, _):
        import pycuda.driver as cuda

        mirror, stream = device.mirror((2,), FLOAT), device.stream()
        mirror.send(stream, np.ones(2, np.float32))
        stream.synchronize()
        context = cuda.Context.get_current()
        cuda.Context.pop()
        with pytest.raises(BackendError, match="destroyed or not current in this thread"):
            mirror.send(stream, np.zeros(2, np.float32))
        assert mirror.array.tolist() == [1, 1]
        context.push()


def test_a_wait_after_the_context_was_replaced_is_an_error_that_names_both() -> None:
    with simulated_gpu("pycuda") as (device, simulation):
        import pycuda.driver as cuda

        gathering = Gathering(device)
        end = gathering.program.launch()
        end.synchronize()
        context, other = cuda.Context.get_current(), cuda.Device(0).make_context()
        simulation.fail(Status.INVALID_HANDLE, "cuEventSynchronize")
        with pytest.raises(BackendError, match="not current in this thread: expected 0x"):
            end.synchronize()
        other.pop()
        other.detach()
        assert cuda.Context.get_current() == context
