# SPDX-License-Identifier: Apache-2.0
"""Engines that build quickly, with their jobs, keys and metadata, for tests of the compilation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest

from foveate.bundle.engine_key import EngineKey, ShapeRange
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.bundle.manifest import FileSpec
from foveate.bundle.schema import parse
from foveate.export.engines import CompileOptions
from foveate.export.engines.process import BuildJob, run_build

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX (tensorrt-rtx-cu13) is missing"
)
ARCHS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120")
KEY = EngineKey(
    target="tensorrt-rtx",
    stage="refine",
    onnx="a" * 64,
    plugins=None,
    tensorrt="1.7.1.116",
    cuda="13",
    archs=("sm_86", "sm_89"),
    options={"optimization_level": 3},
    profiles=(
        {"boxes": ShapeRange(minimum=(1, 4), optimum=(8, 4), maximum=(64, 4))},
        {"boxes": ShapeRange(minimum=(100, 4), optimum=(100, 4), maximum=(100, 4))},
    ),
)


def key_with(**changes: Any) -> EngineKey:
    return replace(KEY, **changes)


def record_of(key: EngineKey, plan: bytes) -> EngineMetadata:
    return EngineMetadata(
        name="refine",
        key=key,
        plan=FileSpec(sha256=hashlib.sha256(plan).hexdigest(), size=len(plan)),
        dispatch={"BilinearUpsample2d": "body"},
        driver=None,
        device=None,
        seconds=0.5,
    )


def write_engine(folder: Path, key: EngineKey = KEY, plan: bytes = b"a plan") -> Path:
    """Write a plan and its metadata as the compiler does."""
    path = folder / "refine.plan"
    path.write_bytes(plan)
    path.with_suffix(".json").write_text(record_of(key, plan).to_json(), encoding="utf-8")
    return path


def refine_options(**changes: Any) -> CompileOptions:
    """Return options of an engine that builds in a fraction of a second."""
    values: dict[str, Any] = {
        "target": "tensorrt-rtx",
        "archs": ("sm_89",),
        "stages": ("refine",),
        "buckets": (2,),
    }
    return CompileOptions(**values | changes)


def request_for(file: Path, stage: str, profile: object, *archs: str) -> BuildJob:
    """Return the job for a plan of TensorRT for RTX next to the ONNX file."""
    profiles = parse(tuple[dict[str, ShapeRange], ...], json.loads(json.dumps([profile])))
    options = refine_options().builder_options()
    return BuildJob(
        name=stage,
        key=key_with(stage=stage, archs=archs, options=options, profiles=profiles),
        onnx=str(file),
        plan=str(file.with_suffix(".plan")),
        timing_cache=None,
        plugins=None,
        report=False,
    )


def build_fixed(file: Path, stage: str, lengths: Mapping[str, int], *archs: str) -> int:
    """Build for inputs of one size, by dimension names, and return the size of the plan in bytes."""
    profile = {}
    for value in onnx.load(file, load_external_data=False).graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [lengths[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims]
        profile[value.name] = {"minimum": shape, "optimum": shape, "maximum": shape}
    return int(run_build(request_for(file, stage, profile, *archs))["size"])
