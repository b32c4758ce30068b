# SPDX-License-Identifier: Apache-2.0
"""Stages that PyTorch runs on an NVIDIA GPU, on the memory of the runtime's device.

A machine with PyTorch and a GPU can thus run the whole pipeline on the GPU without TensorRT, and an
engine can be compared with PyTorch where it runs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from foveate.bundle import Bundle
from foveate.bundle.manifest import StageSpec
from foveate.errors import BackendError, OutOfMemoryError
from foveate.export.execution.stages import Stage, cascade_stages
from foveate.export.execution.torch_engines import stage_call, torch_engines
from foveate.models.checkpoint import Cascade
from foveate.plain_text import first_line
from foveate.runtime.devices import Buffer, CpuDevice, Device, Stream
from foveate.runtime.devices.cuda_streams import cuda_stream
from foveate.runtime.engines import Engine
from foveate.runtime.engines.own_stream import OwnStreamEngine
from foveate.runtime.engines.primary_context import check_primary_context
from foveate.system.gpu import current_gpu


def open_torch_engines(cascade: Cascade, bundle: Bundle, device: Device) -> dict[str, Engine]:
    """Return an engine of PyTorch for each stage, on the device of the pipeline.

    Args:
        cascade: Networks in evaluation mode, with the weights of the bundle. On a GPU, they are
            moved there.
        bundle: Bundle whose signatures the engines have.
        device: Device of the pipeline; a GPU must outlive the engines.

    Raises:
        BackendError: This PyTorch cannot use the GPU.
    """
    if isinstance(device, CpuDevice):
        return dict(torch_engines(cascade, bundle))
    place = torch_device(check_primary_context(device, "PyTorch"))
    return {
        stage.name: TorchCudaEngine(
            stage, bundle.manifest.stages[stage.name], device.stream(), place
        )
        for stage in cascade_stages(cascade)
    }


class TorchCudaEngine(OwnStreamEngine):
    """A stage as a module of PyTorch that reads and writes the memory of a GPU.

    PyTorch keeps its memory for intermediate results per stream.

    Args:
        stage: The stage; its module is moved to the GPU.
        spec: Inputs and outputs of the stage.
        stream: Stream of the GPU for all runs, which the engine owns. Its context must be the
            primary context of the GPU.
        device: The GPU as PyTorch names it.
    """

    def __init__(self, stage: Stage, spec: StageSpec, stream: Stream, device: torch.device) -> None:
        super().__init__(spec.inputs, spec.outputs, stream)
        self._stage = stage
        self._device = device
        with _errors(stage.name):
            stage.module.to(device)
            self._call = stage_call(stage)
            # The layout of the weights changes on the current stream, which orders no other one.
            torch.cuda.synchronize(device)

    def prepare(self, bindings: Mapping[str, Buffer]) -> Callable[[], None]:
        """Return a function that enqueues one run on the engine's stream.

        It raises BackendError if PyTorch fails, and OutOfMemoryError if the GPU has too little
        memory.
        """
        call, name = self._call, self._stage.name
        with _errors(name):
            tensors = {key: as_tensor(one, self._device) for key, one in bindings.items()}
            external: Any = torch.cuda.ExternalStream
            own = external(cuda_stream(self._stream).handle, device=self._device)
        inputs = [tensors[key] for key in self._stage.inputs]

        def run() -> None:
            with _errors(name), torch.cuda.stream(own), _full_precision():
                for key, value in call(inputs).items():
                    tensors[key].copy_(value)

        return run

    def close(self) -> None:
        """Give the unused memory of PyTorch back to the GPU; enqueued runs must be done."""
        torch.cuda.empty_cache()


def torch_device(number: int) -> torch.device:
    """Return a GPU as PyTorch names it.

    Args:
        number: Index of the GPU among those that are visible to CUDA.

    Raises:
        BackendError: PyTorch is built without CUDA, or for another CUDA than the driver's, or
            finds no GPU.
    """
    built, cpu = torch.version.cuda, "or use --device cpu"
    if built is None:
        raise BackendError(
            f"PyTorch {torch.__version__} is built without CUDA, and a GPU needs one with it",
            remedy=f"install one as https://pytorch.org/get-started shows, {cpu}",
        )
    gpu = current_gpu()
    if gpu is None:
        raise BackendError(
            "PyTorch needs an NVIDIA GPU, and no driver of one works here",
            remedy=f"install the driver, {cpu}; `foveate doctor` shows what works here",
        )
    if _major(gpu.driver) < _major(built):
        raise BackendError(
            f"PyTorch {torch.__version__} is for CUDA {built}, and the driver of {gpu.name} supports "
            f"CUDA {gpu.driver} at most",
            remedy=f"update the driver, or install a PyTorch for that version of CUDA, {cpu}",
        )
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        raise BackendError(
            f"PyTorch {torch.__version__} finds no GPU {number}, but {torch.cuda.device_count()} GPUs",
            remedy=f"see if python -c 'import torch; torch.zeros(1).cuda()' works, {cpu}",
        )
    return torch.device("cuda", number)


def as_tensor(buffer: Buffer, device: torch.device) -> Tensor:
    """Return a buffer of a GPU as a tensor on the same memory, by ``__cuda_array_interface__``."""
    tensor = torch.as_tensor(buffer, device=device)
    address: Any = buffer
    assert tensor.data_ptr() == address.address, "PyTorch copied the memory"
    return tensor


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply float32 in float32; by default, PyTorch convolves with 10 bits of fraction."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@contextmanager
def _errors(stage: str) -> Iterator[None]:
    """Raise the errors of PyTorch as ours."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"PyTorch has too little memory of the GPU for the stage {stage!r}",
            remedy="use a smaller image, top_k, max_side or max_in_flight",
        ) from error
    except RuntimeError as error:
        what = f"PyTorch failed in the stage {stage!r} ({first_line(error)})"
        raise BackendError(what, remedy="run: foveate doctor") from error


def _major(version: str) -> int:
    return int(version.split(".", maxsplit=1)[0])
