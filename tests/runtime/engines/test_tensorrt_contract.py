# SPDX-License-Identifier: Apache-2.0
"""Every name of TensorRT that engines read exists in the real bindings, with the same arguments.

So do the names of the simulated TensorRT on which the engines are tested.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.samples.bindings import documentation
from tests.simulated_gpu import tensorrt as simulated

from foveate.runtime.engines import tensorrt
from foveate.system import tensorrt_library

# What the variables hold, by the name of the class in the bindings.
CLASSES = {
    "trt": "",
    "kinds": "DynamicShapesKernelSpecializationStrategy",
    "module": "",
    "base": "ILogger",
    "trt.get_plugin_registry()": "IPluginRegistry",
    "_runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "config": "IRuntimeConfig",
    "_config": "IRuntimeConfig",
    "_cache": "IRuntimeCache",
    "context": "IExecutionContext",
}
# Read where an object has them only.
RTX_ONLY = {
    "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    "IRuntimeConfig.set_runtime_cache",
}
SIMULATED = {
    "Runtime": simulated.Runtime,
    "ICudaEngine": simulated.Engine,
    "IRuntimeConfig": simulated.Config,
    "IExecutionContext": simulated.Context,
}


def names_read() -> Iterator[str]:
    for module in (tensorrt, tensorrt_library):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                head = ast.unparse(node.value).removeprefix("self.")
                first, _, rest = head.partition(".")
                if head in CLASSES:
                    yield f"{CLASSES[head]}.{node.attr}".lstrip(".")
                elif first == "trt" and rest.isidentifier():
                    yield f"{rest}.{node.attr}"


@pytest.mark.parametrize(
    ("module", "lacking"),
    [("tensorrt", RTX_ONLY), ("tensorrt_lean", RTX_ONLY), ("tensorrt_rtx", set())],
)
def test_every_name_exists_in_the_bindings(module: str, lacking: set[str], tmp_path: Path) -> None:
    wanted = {name for name in names_read() if not name.endswith("__")}
    assert wanted > RTX_ONLY
    assert {
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.create_execution_context",
        "IExecutionContext.execute_async_v3",
        "IPluginRegistry.load_library",
        "ExecutionContextAllocationStrategy.USER_MANAGED",
        "ILogger.ERROR",
    } < wanted
    found = documentation(module, wanted, tmp_path)
    assert {name for name, text in found.items() if text is None} == lacking


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_lean", "tensorrt_rtx"])
def test_the_simulated_classes_have_the_arguments_of_the_real_ones(
    module: str, tmp_path: Path
) -> None:
    arguments = {
        f"{name}.{method}": list(inspect.signature(function).parameters)[1:]
        for name, kind in SIMULATED.items()
        for method, function in inspect.getmembers(kind, inspect.isfunction)
        if not method.startswith("_")
    }
    assert arguments["IExecutionContext.set_tensor_address"] == ["name", "memory"]
    found = documentation(module, set(arguments), tmp_path)
    for method, names in arguments.items():
        text = found[method] or ""
        lines = [line for line in text.splitlines() if "(self: " in line]
        signatures = [re.findall(r"(?:\(|, )(\w+): ", line) for line in lines]
        assert ["self", *names] in signatures, (method, names, text)
