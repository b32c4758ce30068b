# SPDX-License-Identifier: Apache-2.0
"""A simulated Triton: its module for Python models, and a server of a repository's ONNX files.

It follows the documentation of the Python backend and is as strict as the server: names, types and
dimensions of every tensor must match the configuration, which is read with Triton's own schema.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import json_format, text_format

TYPES = {
    "TYPE_BOOL": np.bool_,
    "TYPE_FP32": np.float32,
    "TYPE_INT32": np.int32,
    "TYPE_INT64": np.int64,
    "TYPE_STRING": np.object_,
    "TYPE_UINT8": np.uint8,
}


def schema() -> Any:
    """Return Triton's schema of a model configuration, without importing its client."""
    try:
        files = metadata.files("tritonclient") or []
    except metadata.PackageNotFoundError:
        pytest.skip("Triton's schema (pip install --no-deps tritonclient) is missing")
    (file,) = [one for one in files if str(one) == "tritonclient/grpc/model_config_pb2.py"]
    name = "model_config_pb2"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, str(file.locate()))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def read_config(folder: Path) -> Any:
    """Read a model configuration; entries outside the schema are errors."""
    text = (folder / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, schema().ModelConfig())
    assert config.name == folder.name
    return config


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        assert isinstance(array, np.ndarray), "a tensor is made of a numpy array"
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonError(Exception):
    def message(self) -> str:
        return str(self.args[0])


@dataclass
class InferenceResponse:
    tensors: list[Tensor]
    failure: TritonError | None = None

    def output_tensors(self) -> list[Tensor]:
        return self.tensors

    def has_error(self) -> bool:
        return self.failure is not None

    def error(self) -> TritonError | None:
        return self.failure


@dataclass
class Request:
    """The argument of a Python model."""

    inputs: list[Tensor]
    outputs: list[str]

    def requested_output_names(self) -> list[str]:
        return self.outputs


@dataclass(frozen=True)
class PreferredMemory:
    kind: int
    device: int = 0


@dataclass
class Server:
    """A server of a repository; ``broken`` is the name of a model that fails."""

    root: Path
    broken: str = ""
    calls: list[str] = field(default_factory=list)

    def backend_utils(self) -> ModuleType:
        """Return the module that a Python model imports."""
        server, module = self, ModuleType("triton_python_backend_utils")

        class InferenceRequest:
            def __init__(
                self,
                *,
                model_name: str,
                requested_output_names: list[str],
                inputs: list[Tensor],
                preferred_memory: PreferredMemory,
            ) -> None:
                # Without it, outputs of a model on a GPU are there, and have no `as_numpy`.
                assert preferred_memory == PreferredMemory(1, 0)
                self.arguments = (model_name, requested_output_names, inputs)

            def exec(self) -> InferenceResponse:
                return server.infer(*self.arguments)

        def by_name(holder: Request | InferenceResponse, name: str) -> Tensor:
            tensors = holder.inputs if isinstance(holder, Request) else holder.tensors
            return next(one for one in tensors if one.name() == name)

        for name, value in {
            "InferenceRequest": InferenceRequest,
            "InferenceResponse": InferenceResponse,
            "PreferredMemory": PreferredMemory,
            "TRITONSERVER_MEMORY_CPU": 1,
            "Tensor": Tensor,
            "TritonError": TritonError,
            "get_input_tensor_by_name": by_name,
            "get_output_tensor_by_name": by_name,
        }.items():
            setattr(module, name, value)
        return module

    def load(self, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Start a Python model as the backend does."""
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", self.backend_utils())
        file = self.root / name / "1" / "model.py"
        spec = importlib.util.spec_from_file_location("served_model", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        config = json_format.MessageToDict(
            read_config(self.root / name), preserving_proto_field_name=True
        )
        model.initialize(
            {
                "model_config": json.dumps(config),
                "model_instance_kind": "CPU",
                "model_instance_device_id": "0",
                "model_repository": str(self.root / name),
                "model_version": "1",
                "model_name": name,
            }
        )
        return model

    def ask(self, model: Any, name: str, image: np.ndarray, *outputs: str) -> InferenceResponse:
        """Send a request to a Python model."""
        config = read_config(self.root / name)
        check(config.input, [Tensor("image", image)])
        (response,) = model.execute([Request([Tensor("image", image)], list(outputs))])
        assert isinstance(response, InferenceResponse)
        if not response.has_error():
            check([one for one in config.output if one.name in outputs], response.tensors)
        return response

    def infer(self, name: str, outputs: list[str], inputs: list[Tensor]) -> InferenceResponse:
        self.calls.append(name)
        if name == self.broken:
            return InferenceResponse([], TritonError("out of memory"))
        config = read_config(self.root / name)
        assert config.platform == "onnxruntime_onnx"
        check(config.input, inputs)
        session = onnxruntime.InferenceSession(self.root / name / "1" / "model.onnx")
        arrays = session.run(outputs, {one.name(): one.as_numpy() for one in inputs})
        tensors = [Tensor(*pair) for pair in zip(outputs, arrays, strict=True)]
        check([one for one in config.output if one.name in outputs], tensors)
        return InferenceResponse(tensors)


def check(expected: Any, found: list[Tensor]) -> None:
    """Compare tensors with their configuration, as the server does before it runs a model."""
    assert sorted(one.name for one in expected) == sorted(one.name() for one in found)
    arrays = {one.name(): one.as_numpy() for one in found}
    for one in expected:
        array = arrays[one.name]
        assert array.dtype == TYPES[schema().DataType.Name(one.data_type)], one.name
        assert array.ndim == len(one.dims), one.name
        assert all(want in {-1, have} for want, have in zip(one.dims, array.shape, strict=True))
