# SPDX-License-Identifier: Apache-2.0
"""Sessions of ONNX Runtime on the simulated GPU, as strict as those of its CUDA provider."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tests.simulated_gpu.driver.simulation import Simulation

from foveate.runtime.engines import onnxruntime_cuda
from foveate.runtime.engines.onnxruntime_session import open_session

CPU = "CPUExecutionProvider"
NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def simulate_sessions(patch: pytest.MonkeyPatch, simulation: Simulation) -> None:
    """Let engines of ONNX Runtime for CUDA open simulated sessions, which need no cuDNN."""
    patch.setattr(onnxruntime_cuda, "open_session", partial(SimulatedSession, simulation))
    patch.setattr(onnxruntime_cuda, "check_cudnn", lambda _: None)


class SimulatedSession:
    """A stand-in for ``onnxruntime.InferenceSession`` with the CUDA provider.

    It runs the file on the CPU, on memory of the simulation, as work of the stream that it was given.

    Args:
        simulation: The GPU.
        source: The file.
        options: Options of the session.
        providers: Providers with their options, each for the same GPU and stream.
    """

    def __init__(
        self,
        simulation: Simulation,
        source: Path,
        options: Any,
        providers: Sequence[tuple[str, dict[str, str]]],
    ) -> None:
        assert isinstance(options, onnxruntime.SessionOptions)
        self.simulation, self.source = simulation, source
        self.providers = [name for name, _ in providers]
        self.settings = dict(providers)
        ((self.device, self.stream),) = {
            (int(given["device_id"]), int(given["user_compute_stream"])) for _, given in providers
        }
        assert self.stream, "0 counts as no stream"
        simulation.stream(self.stream)  # which must exist
        self.session = open_session(source, onnxruntime.SessionOptions())
        self.runs = 0

    def __del__(self) -> None:
        if hasattr(self, "runs"):  # it was opened
            self.simulation.stream(self.stream)  # which its handles of cuBLAS and cuDNN still use

    def get_providers(self) -> list[str]:
        return [*self.providers, CPU]

    def get_inputs(self) -> Any:
        return self.session.get_inputs()

    def get_outputs(self) -> Any:
        return self.session.get_outputs()

    def io_binding(self) -> SimulatedBinding:
        return SimulatedBinding(self)

    def run_with_iobinding(self, binding: SimulatedBinding, run_options: Any) -> None:
        assert binding.session is self
        entry = run_options.get_run_config_entry("disable_synchronize_execution_providers")
        assert entry == "1", "the run would wait for the stream"
        assert set(binding.inputs) == {one.name for one in self.get_inputs()}
        assert set(binding.outputs) == {one.name for one in self.get_outputs()}
        stream = self.simulation.stream(self.stream)
        self.simulation.streams.captures.refuse_captured(stream, "a run of ONNX Runtime")
        self.simulation.enqueue(self.stream, "engine", "ONNX Runtime", binding.compute)
        self.runs += 1


class SimulatedBinding:
    """A stand-in for ``onnxruntime.IOBinding``."""

    def __init__(self, session: SimulatedSession) -> None:
        self.session = session
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Any,
        buffer_ptr: int,
    ) -> None:
        tensor = (device_type, device_id, element_type, shape, buffer_ptr)
        self.inputs[name] = self._check(self.session.get_inputs(), name, *tensor)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        tensor = (device_type, device_id, element_type, shape, buffer_ptr)
        self.outputs[name] = self._check(self.session.get_outputs(), name, *tensor)

    def compute(self) -> None:
        """Run the file on the memory that is bound."""
        memory = self.session.simulation.memory
        given = {name: one.view(memory, write=False) for name, one in self.inputs.items()}
        names = list(self.outputs)
        for name, result in zip(names, self.session.session.run(names, given), strict=True):
            target = self.outputs[name].view(memory, write=True)
            assert result.shape == target.shape, f"{name} is {result.shape}, bound {target.shape}"
            np.copyto(target, result)

    def _check(
        self,
        specs: Any,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Any,
        buffer_ptr: int | None,
    ) -> Tensor:
        (spec,) = (one for one in specs if one.name == name)
        assert device_type == "cuda"
        assert device_id == self.session.device
        assert np.dtype(element_type) == NUMPY[spec.type], name
        assert len(shape) == len(spec.shape), f"{name} is {spec.shape}, bound {shape}"
        for found, wanted in zip(shape, spec.shape, strict=True):
            assert isinstance(wanted, str) or found == wanted, f"{name}: {spec.shape}, {shape}"
        assert buffer_ptr is not None
        tensor = Tensor(buffer_ptr, tuple(shape), np.dtype(element_type))
        piece = self.session.simulation.memory.piece(buffer_ptr)
        assert piece is not None, f"{name} lies in no live memory"
        kind, start, size = piece
        assert kind == "device", f"{name} lies in {kind} memory"
        assert buffer_ptr + tensor.nbytes <= start + size, f"{name} ends after its memory"
        return tensor


class Tensor:
    """A dense array in memory of the simulation."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.address, self.shape, self.dtype = address, shape, dtype
        self.nbytes = int(np.prod(shape)) * dtype.itemsize

    def view(self, memory: Any, *, write: bool) -> Any:
        """Return the array, as work of the GPU that reads or writes it."""
        found = memory.bytes_at(self.address, self.nbytes, write=write)
        return found.view(self.dtype).reshape(self.shape)
