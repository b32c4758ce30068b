# SPDX-License-Identifier: Apache-2.0
"""Images that come from other libraries, and results for them, in the memory of a GPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from tests.runtime.devices.opened import FLOAT, GPUS, simulated_gpu
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.errors import BackendError, InputError
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_memory import CudaMirror
from foveate.runtime.devices.cuda_streams import CudaStream
from foveate.system import dlpack

BYTE = np.dtype(np.uint8)
ON_CPU = 1  # a type of devices of DLPack
Gpu = tuple[CudaDevice, Simulation]
# The results of the other device are arrays of PyCUDA.
NOT_PYCUDA = pytest.mark.parametrize("gpu", ["cuda"], indirect=True)


@pytest.fixture(params=GPUS)
def gpu(request: pytest.FixtureRequest) -> Iterator[Gpu]:
    with simulated_gpu(request.param, run_kernels=True) as opened:
        yield opened
        assert opened[1].conflicts == []


class Made:
    """An array of another library: a mirror, and the stream that fills it."""

    def __init__(self, device: CudaDevice, shape: tuple[int, ...] = (4, 5, 3)) -> None:
        self.stream: CudaStream = device.stream()
        self.mirror: CudaMirror = device.mirror(shape, BYTE)
        self.mirror.array[:] = np.arange(self.mirror.array.size).reshape(shape)
        self.mirror.send(self.stream)


class Interfaced(Made):
    """An array with the CUDA array interface."""

    changed: Mapping[str, Any] = MappingProxyType({})

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = self.mirror.buffer.__cuda_array_interface__
        return {**interface, "stream": self.stream.handle, **self.changed}


class Packed(Made):
    """An array with DLPack, as PyTorch, CuPy and JAX have it; JAX takes any number for a stream."""

    number = 0
    asked: list[int]

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.number

    def __dlpack__(self, *, stream: int) -> object:
        self.asked = [*getattr(self, "asked", []), stream]
        done = self.stream.record()
        self.mirror._context.call("cuStreamWaitEvent", stream, done.handle, 0)
        buffer = self.mirror.buffer
        return dlpack.write(buffer.address, buffer.shape, BYTE, self.__dlpack_device__(), self)


def received(device: CudaDevice, made: Made) -> Any:
    image = device.accept(made)
    assert image is not None
    target, stream = device.mirror(image.shape, BYTE), device.stream()
    kept = image.copy_to(target.buffer, stream)
    target.fetch(stream)
    stream.synchronize()
    assert kept is not None
    return target.array


@pytest.mark.parametrize("kind", [Interfaced, Packed])
def test_an_image_is_copied_after_the_work_that_made_it(gpu: Gpu, kind: type[Made]) -> None:
    device, simulation = gpu
    made = kind(device)
    np.testing.assert_array_equal(received(device, made), made.mirror.array)
    assert simulation.bytes_copied()["DtoD"] == made.mirror.array.nbytes


@pytest.mark.parametrize("kind", [Interfaced, Packed])
def test_a_part_of_an_image_is_copied_row_by_row(gpu: Gpu, kind: type[Made]) -> None:
    device, simulation = gpu
    made = kind(device, (7, 9, 3))
    image = device.accept(made)
    assert image is not None
    part = image.part(2, 3, 4, 5).part(1, 1, 2, 4)
    target, stream = device.mirror((2, 4, 3), BYTE), device.stream()
    kept = part.copy_to(target.buffer, stream)
    target.fetch(stream)
    stream.synchronize()
    np.testing.assert_array_equal(target.array, made.mirror.array[3:5, 4:8])
    assert simulation.bytes_copied()["DtoD"] == 2 * 4 * 3
    assert kept is not None


def test_dlpack_gets_the_stream_of_the_copy(gpu: Gpu) -> None:
    device, _ = gpu
    made = Packed(device)
    received(device, made)
    metadata, stream = made.asked
    assert metadata == 1  # the legacy stream
    assert stream > 2


def test_an_interface_without_a_stream_is_ordered_after_the_legacy_stream(gpu: Gpu) -> None:
    device, simulation = gpu
    made = Interfaced(device)
    made.stream.synchronize()
    made.changed = {"stream": None}
    received(device, made)
    details = [call for call in simulation.calls if call.name == "cuEventRecord"]
    assert details


@pytest.mark.parametrize("kind", [Interfaced, Packed])
def test_an_array_lives_until_the_copy_is_dropped(gpu: Gpu, kind: type[Made]) -> None:
    device, _ = gpu
    made = kind(device)
    image = device.accept(made)
    assert image is not None
    target, stream = device.mirror(image.shape, BYTE), device.stream()
    kept = image.copy_to(target.buffer, stream)
    stream.synchronize()
    alive = weakref.ref(made)
    del made, image
    gc.collect()
    assert alive() is not None
    del kept
    gc.collect()
    assert alive() is None


def test_other_objects_are_not_accepted(gpu: Gpu) -> None:
    device, _ = gpu
    for value in ("image.jpg", np.zeros((4, 4, 3), np.uint8), None, [1]):
        assert device.accept(value) is None


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"typestr": "<f4"}, r"found float32 of shape \(4, 5, 3\): convert it on the GPU"),
        ({"typestr": "<f4", "strides": (60, 12, 4)}, r"found float32 of shape \(4, 5, 3\): conv"),
        ({"shape": (4, 5)}, r"found uint8 of shape \(4, 5\)"),
        ({"shape": (4, 5, 4)}, r"found uint8 of shape \(4, 5, 4\)"),
        ({"shape": (0, 5, 3)}, r"at least one pixel, found shape \(0, 5, 3\)"),
        ({"strides": (1, 4, 20)}, r"and strides \(1, 4, 20\)"),
        ({"data": (0, False)}, "is freed or does not lie in the memory of a GPU: keep it"),
        ({"data": (12345, False)}, "is freed or does not lie in the memory of a GPU"),
    ],
)
def test_what_is_no_image_is_told(gpu: Gpu, changed: dict[str, Any], found: str) -> None:
    device, _ = gpu
    made = Interfaced(device)
    made.changed = changed
    with pytest.raises(InputError, match=found):
        device.accept(made)
    made.stream.synchronize()


def test_dense_strides_may_be_given(gpu: Gpu) -> None:
    device, _ = gpu
    made = Interfaced(device)
    made.changed = {"strides": (15, 3, 1)}
    np.testing.assert_array_equal(received(device, made), made.mirror.array)


def test_an_array_on_another_gpu_is_told(gpu: Gpu) -> None:
    device, _ = gpu
    device.context.number = 1
    with pytest.raises(InputError, match="memory of the GPU 0, expected 1: copy it there, or load"):
        device.accept(Interfaced(device))


def test_an_array_that_cannot_be_shared_is_told(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    device, _ = gpu

    def refuse(self: Packed, *, stream: int) -> object:
        raise BufferError("Can't export tensors that require gradient")

    monkeypatch.setattr(Packed, "__dlpack__", refuse)
    with pytest.raises(InputError, match="cannot be shared: Can't export.*without gradients"):
        device.accept(Packed(device))


@pytest.mark.parametrize("name", ["__dlpack_device__", "__dlpack__"])
def test_a_deleted_array_is_told_with_the_reason_of_its_library(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    device, _ = gpu

    def refuse(self: Packed, **_: object) -> object:
        raise AttributeError("Array has been deleted")

    monkeypatch.setattr(Packed, name, refuse)
    with pytest.raises(InputError, match="shared: Array has been deleted: pass an array that ex"):
        device.accept(Packed(device))


@pytest.mark.parametrize("typestr", ["", None])
def test_a_damaged_interface_is_told(gpu: Gpu, typestr: str | None) -> None:
    device, _ = gpu
    made = Interfaced(device)
    made.changed = {"typestr": typestr}
    with pytest.raises(InputError, match="cannot be shared"):
        device.accept(made)


@NOT_PYCUDA
def test_a_result_is_exported_both_ways(gpu: Gpu) -> None:
    device, _ = gpu
    buffer, owner = device.allocate((3, 2), FLOAT), Owner()
    shared = device.share(buffer, owner)
    assert repr(shared) == "GpuArray(float32[3, 2])"
    assert shared.__cuda_array_interface__["data"] == (buffer.address, False)
    assert shared.__dlpack_device__() == (dlpack.CUDA, 0)
    found = dlpack.read(shared.__dlpack__(stream=1))
    assert found == dlpack.Array(
        address=buffer.address, shape=(3, 2), strides=None, dtype="float32"
    )
    for options in ({"copy": True}, {"dl_device": (ON_CPU, 0)}):
        with pytest.raises(BufferError, match="without a copy, on its own GPU"):
            shared.__dlpack__(**options)
    device.close()
    with pytest.raises(BackendError, match="closed"):
        shared.__dlpack__()


class Owner:
    """Something that must live."""


@NOT_PYCUDA
def test_an_exported_capsule_keeps_the_owner_until_it_is_consumed_or_dropped(gpu: Gpu) -> None:
    device, _ = gpu
    owner = Owner()
    alive = weakref.ref(owner)
    shared = device.share(device.allocate((3,), FLOAT), owner)
    capsule = shared.__dlpack__()
    del owner, shared
    gc.collect()
    assert alive() is not None
    del capsule
    gc.collect()
    assert alive() is None


def test_numpy_reads_what_is_written() -> None:
    """In the memory of the CPU, where NumPy consumes the capsule and gives it back."""

    class Exported:
        def __init__(self) -> None:
            self.numbers = np.arange(6, dtype=np.float32).reshape(2, 3)

        def __dlpack_device__(self) -> tuple[int, int]:
            return ON_CPU, 0

        def __dlpack__(self, **_: object) -> Any:
            address, device = self.numbers.ctypes.data, self.__dlpack_device__()
            return dlpack.write(address, (2, 3), FLOAT, device, self)

    exported = Exported()
    alive = weakref.ref(exported)
    taken = np.from_dlpack(exported)
    del exported
    gc.collect()
    assert taken.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert alive() is not None
    del taken
    gc.collect()
    assert alive() is None


def test_what_numpy_writes_is_read() -> None:
    numbers = np.zeros((4, 6), np.int16)[:, ::2]
    found = dlpack.read(numbers.__dlpack__())
    assert (found.shape, found.strides, found.dtype) == ((4, 3), (6, 2), "int16")
    assert found.address == numbers.ctypes.data
