# SPDX-License-Identifier: Apache-2.0
"""Every name of TensorRT in the worker exists in the real bindings of both targets."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.samples.bindings import documentation

from foveate.export.engines import worker

# What the worker's variables hold, by the name of the class in the bindings.
CLASSES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "registry": "IPluginRegistry",
    "profile": "IOptimizationProfile",
    "inspector": "EngineInspector",
    "engine": "ICudaEngine",
}
BEHIND_A_CALL = {
    # Attributes of what a call returns, which no variable names.
    "Runtime": ["deserialize_cuda_engine"],
    "ITimingCache": ["serialize"],
    "ParserError": ["desc", "node_name", "node_operator"],
    "IPluginCreatorV3One": ["name", "plugin_version", "plugin_namespace"],
    "IProgressMonitor": ["phase_start", "phase_finish", "step_complete"],
    "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"],
    "BuilderFlag": ["REFIT", "REQUIRE_USER_ALLOCATION", "STRIP_PLAN", "TF32", "VERSION_COMPATIBLE"],
}


def names_read() -> Iterator[str]:
    """Yield the names of the bindings in the source: ``trt.X.Y``, and attributes of variables."""
    source = Path(str(worker.__file__)).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node).removeprefix("self.")
            head, _, rest = name.partition(".")
            if head == "trt" and rest and "(" not in name:
                yield rest
            elif head in CLASSES and rest.isidentifier():
                yield f"{CLASSES[head]}.{rest}"
    yield from (f"{head}.{name}" for head, names in BEHIND_A_CALL.items() for name in names)


# Read only of a target that builds for GPUs that are not here.
ACROSS_GPUS = {
    "BuilderFlag.REQUIRE_USER_ALLOCATION",
    "ComputeCapability",
    "ComputeCapability.__members__",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}


@pytest.mark.parametrize(
    ("module", "lacking"), [("tensorrt", ACROSS_GPUS), ("tensorrt_rtx", set())]
)
def test_every_name_exists_in_the_bindings(module: str, lacking: set[str], tmp_path: Path) -> None:
    wanted = set(names_read())
    assert {"Builder.create_network", "MemoryPoolType.WORKSPACE"} < wanted
    assert {"IBuilderConfig.set_timing_cache", "EngineInspector.get_engine_information"} < wanted
    found = documentation(module, wanted, tmp_path)
    assert {name for name, text in found.items() if text is None} == lacking
