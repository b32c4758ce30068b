# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the simulated GPU: its names for CUDA, with tensors on the memory of the simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tests.simulated_gpu.driver.simulation import Simulation
from torch import Tensor

from foveate.export.execution import torch_cuda
from foveate.export.execution.stages import Stage
from foveate.export.execution.torch_engines import stage_call

CPU = torch.device("cpu")


class TorchOnArena:
    """Stand-ins for what the engine of PyTorch uses of CUDA.

    PyTorch of this machine computes at once. So when a stream is entered, all work before it is run,
    and when it is left, a piece of work is enqueued that makes the accesses known, so that a missing
    order between them and other work is reported.

    Args:
        simulation: The GPU.
        patch: Puts the stand-ins into place.

    Attributes:
        entered: Handles of the streams that were entered.
    """

    def __init__(self, simulation: Simulation, patch: pytest.MonkeyPatch) -> None:
        self.simulation = simulation
        self.entered: list[int] = []
        self._tensors: list[tuple[int, int]] = []
        self._moving = False  # whether weights may still be on their way to the GPU
        patch.setattr(torch_cuda, "as_tensor", self.as_tensor)
        patch.setattr(torch_cuda, "torch_device", lambda _: CPU)
        patch.setattr(torch.cuda, "ExternalStream", self.external_stream)
        patch.setattr(torch.cuda, "stream", self.stream)
        patch.setattr(torch.cuda, "synchronize", self.synchronize)
        patch.setattr(torch_cuda, "stage_call", self.stage_call)

    def as_tensor(self, buffer: Any, device: torch.device) -> Tensor:
        """Return a tensor on the memory of a buffer, by its ``__cuda_array_interface__``."""
        assert device == CPU
        given = buffer.__cuda_array_interface__
        (address, read_only), dtype = given["data"], np.dtype(given["typestr"])
        size = int(np.prod(given["shape"])) * dtype.itemsize
        assert given["version"] == 3
        assert not given.get("strides")
        assert not read_only
        memory = self.simulation.memory
        kind, start, length = memory.piece(address) or ("no live", 0, 0)
        assert kind == "device", f"{kind} memory"
        assert address + size <= start + length, "the tensor ends after its memory"
        self._tensors.append((address, size))
        offset = memory.offset(address)
        assert offset is not None
        array = memory.data[offset : offset + size].view(dtype).reshape(given["shape"])
        return torch.from_numpy(array)

    def external_stream(self, stream_ptr: int, *, device: torch.device) -> External:
        """Return a live stream, on which the tensors made since the last call are used."""
        assert device == CPU
        assert stream_ptr
        self.simulation.stream(stream_ptr)
        tensors, self._tensors = self._tensors, []
        return External(stream_ptr, tensors)

    def stage_call(self, stage: Stage) -> Callable[[Sequence[Tensor]], dict[str, Tensor]]:
        """Change the layout of weights, on the current stream and not on that of the engine."""
        self._moving = True
        return stage_call(stage)

    def synchronize(self, device: torch.device) -> None:
        """Wait for all work of PyTorch."""
        assert device == CPU
        self._moving = False

    @contextmanager
    def stream(self, external: External) -> Iterator[None]:
        """Run the work before this point of a stream, and enqueue what stands for that inside."""
        simulation, streams = self.simulation, self.simulation.streams
        assert not self._moving, "a run may read weights before they have their layout"
        self.entered.append(external.handle)
        stream = simulation.stream(external.handle)
        streams.captures.refuse_captured(stream, "a run of PyTorch")
        while not all(task.done for task in stream.ends):
            streams._step()  # unlike a wait of the CPU, this orders nothing
        yield
        simulation.enqueue(external.handle, "engine", "PyTorch", partial(self._touch, external))

    def _touch(self, external: External) -> None:
        """Make known that tensors are read and written; too much, as far as inputs go."""
        for address, size in external.tensors:
            self.simulation.memory.bytes_at(address, size, write=True)


class External(NamedTuple):
    """A stream of another library, with address and bytes of the tensors that are used on it."""

    handle: int
    tensors: list[tuple[int, int]]
