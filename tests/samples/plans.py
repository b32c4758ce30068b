# SPDX-License-Identifier: Apache-2.0
"""Plans of a bundle for the simulated TensorRT: ONNX files with the profiles that a plan contains."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from foveate.bundle import Bundle
from foveate.bundle.engine_key import EngineKey
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.bundle.manifest import FileSpec
from foveate.export.engines import CompileOptions
from foveate.export.engines.shapes import EngineSpec, engine_specs
from foveate.export.execution.stage_model import custom_ops
from foveate.kernels.plugins.build import source_digest
from foveate.kernels.plugins.library import library_path
from foveate.system.tensorrt import TARGETS, Installed

TENSORRT = Installed(target=TARGETS["tensorrt"], version="11.4.0", cuda="13")
RTX = Installed(target=TARGETS["tensorrt-rtx"], version="1.7.1", cuda="13")
ARCHITECTURE = "sm_75"


def write_plans(
    bundle: Bundle,
    *,
    installed: Installed = TENSORRT,
    stages: tuple[str, ...] = (),
    image_sizes: tuple[tuple[int, int], ...] = (),
    buckets: tuple[int, ...] = (),
    with_plugins: bool = False,
    **changes: Any,
) -> list[Path]:
    """Write the plans that a compilation with these options would, and return their files.

    Args:
        bundle: Bundle to which they are added.
        installed: TensorRT that they are for.
        stages: Stages to compile; all by default.
        image_sizes: Widths and heights, as for a compilation.
        buckets: Numbers of windows and boxes, as for a compilation.
        with_plugins: Whether the plans use the plugin library.
        changes: Other parts of the keys.
    """
    options = CompileOptions(
        target=installed.target.name, stages=stages, image_sizes=image_sizes, buckets=buckets
    )
    specs = engine_specs(bundle.manifest, options)
    return [
        _write_plan(bundle, one, installed, with_plugins=with_plugins, **changes) for one in specs
    ]


def _write_plan(
    bundle: Bundle, spec: EngineSpec, installed: Installed, *, with_plugins: bool, **changes: Any
) -> Path:
    file = bundle.stage_path(spec.stage)
    operators = [op.name for op in custom_ops(onnx.load(file))]
    sources = source_digest() if with_plugins and operators else None
    key = EngineKey(
        target=installed.target.name,
        stage=spec.stage,
        onnx=bundle.manifest.files[file.name].sha256,
        plugins=sources,
        tensorrt=installed.version,
        cuda=installed.cuda,
        archs=(ARCHITECTURE,),
        options={},
        profiles=spec.profiles,
    )
    key = replace(key, **changes)
    content = plan_of(file, key)
    record = EngineMetadata(
        name=spec.name,
        key=key,
        plan=FileSpec(sha256=hashlib.sha256(content).hexdigest(), size=len(content)),
        dispatch=dict.fromkeys(operators, "body" if key.plugins is None else "plugin"),
        driver=None,
        device=None,
        seconds=0.5,
    )
    path = bundle.root / "engines" / key.target / f"{spec.name}.plan"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(record.to_json())
    return path


def plan_of(file: Path, key: EngineKey) -> bytes:
    """Return a plan of the simulated TensorRT."""
    model = onnx.load(file)
    entries = {
        "profiles": [
            {name: asdict(one) for name, one in profile.items()} for profile in key.profiles
        ],
        "archs": list(key.archs),
        "plugins": key.plugins,
        "has_code": bool(key.options.get("version_compatible")),
    }
    for name, value in entries.items():
        model.metadata_props.add(key=name, value=json.dumps(value))
    content: bytes = model.SerializeToString()
    return content


def write_library(sources: str | None = None) -> Path:
    """Write a plugin library, without code, to its place in the user's cache."""
    path = library_path(sources or source_digest(), ARCHITECTURE)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a library")
    path.with_suffix(".json").write_text(json.dumps({"sources": sources or source_digest()}))
    return path
