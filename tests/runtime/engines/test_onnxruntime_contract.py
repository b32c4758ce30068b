# SPDX-License-Identifier: Apache-2.0
"""Every name and option that the engine for CUDA uses exists in the installed ONNX Runtime.

Its CUDA provider does not start on a machine without a GPU, so names are looked up in the bindings,
and options in the libraries.
"""

from __future__ import annotations

import ast
import inspect
import mmap
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.conftest import refine_stage
from tests.samples.paths import PACKAGE

from foveate.runtime.engines import onnxruntime_cuda
from foveate.runtime.engines.onnxruntime_cuda import CUDA, TENSORRT
from foveate.runtime.engines.onnxruntime_session import open_session

LIBRARIES = Path(onnxruntime.__file__).parent / "capi"
PROVIDERS = {CUDA: "cuda", TENSORRT: "tensorrt"}

pytestmark = pytest.mark.skipif(
    CUDA not in onnxruntime.get_available_providers(),
    reason="needs an ONNX Runtime with the CUDA provider",
)


@cache
def library(name: str) -> bytes | mmap.mmap:
    (file,) = LIBRARIES.glob(name)
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def knows(name: str, text: str) -> bool:
    """Return whether a library has a string, which may be the end of a longer one."""
    return library(name).find(text.encode() + b"\0") >= 0


@pytest.mark.parametrize("file", sorted((PACKAGE / "runtime" / "engines").glob("onnxruntime*.py")))
def test_every_attribute_of_the_module_exists(file: Path) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "onnxruntime"
    }
    assert {name for name in used if not hasattr(onnxruntime, name)} == set()


@pytest.mark.parametrize("engines", [None, Path("engines")])
def test_every_option_of_a_provider_is_one_of_its_library(engines: Path | None) -> None:
    providers = onnxruntime_cuda._providers(0, 4096, engines)
    assert [name for name, _ in providers] == [TENSORRT, CUDA][engines is None :]
    for name, options in providers:
        for key in options:
            assert knows(f"libonnxruntime_providers_{PROVIDERS[name]}.so", key), key
        assert options["user_compute_stream"] == "4096"


def test_what_the_provider_of_tensorrt_takes_as_true_or_false_is_written_so() -> None:
    (_, options), _ = onnxruntime_cuda._providers(0, 4096, Path("engines"))
    refusal = "[ERROR] [TensorRT] The value for the key {!r} should be 'True' or 'False'. "
    bindings = library("onnxruntime_pybind11_state*.so")
    flags = {key for key in options if bindings.find(refusal.format(key).encode()) >= 0}
    assert flags == {"trt_engine_cache_enable", "trt_timing_cache_enable"}
    assert {options[key] for key in flags} == {"True"}


@pytest.mark.parametrize("value", ["kSameAsRequested", "HEURISTIC"])
def test_the_values_of_options_are_those_of_the_library(value: str) -> None:
    assert knows("libonnxruntime_providers_cuda.so", value)


@pytest.mark.parametrize(
    "entry",
    ["disable_synchronize_execution_providers", "session.use_device_allocator_for_initializers"],
)
def test_every_entry_of_a_configuration_is_one_of_the_library(entry: str) -> None:
    source = inspect.getsource(onnxruntime_cuda)
    assert f'"{entry}"' in source
    assert knows("libonnxruntime.so.*", entry)


def test_bindings_take_an_address_of_a_gpu() -> None:
    """A session on the CPU refuses it, but only because it cannot copy from there."""
    session = open_session(refine_stage()[0].SerializeToString(), onnxruntime.SessionOptions())
    binding = session.io_binding()
    with pytest.raises(
        RuntimeError, match=r"copying tensors from Device:\[DeviceType:1 .*DeviceId:3"
    ):
        binding.bind_input("vectors", "cuda", 3, np.dtype(np.float32), (2, 3), 1 << 32)
    binding.bind_output("logits", "cuda", 3, np.dtype(np.float32), (2, 160, 160), 1 << 32)


def test_the_run_options_hold_the_entry_that_omits_the_wait() -> None:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
