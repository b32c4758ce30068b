# SPDX-License-Identifier: Apache-2.0
"""The folder that Triton Inference Server loads: a model a stage, and one that calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from foveate import __version__
from foveate.bundle import Bundle
from foveate.bundle.engine_metadata import EngineMetadata, read_metadata
from foveate.errors import BundleError, InputError
from foveate.export.engines.stage_model import load_stage
from foveate.export.to_onnx.standard_ops import inline_functions
from foveate.export.triton.config import cascade_config, stage_config
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD
from foveate.system.files import new_folder

_TARGET = "tensorrt"
"""Whose engines Triton's TensorRT backend loads; it has none for TensorRT for RTX."""


def write_repository(
    bundle: Bundle,
    directory: Path,
    *,
    name: str = "foveate",
    engines: bool = False,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
) -> list[str]:
    """Write a bundle as a model repository.

    Args:
        bundle: to be served.
        directory: of the repository; must not exist, or be empty.
        name: of the model that takes images; a stage's model is ``<name>_<stage>``.
        engines: serve the engines of TensorRT that stand in the bundle, in place of its ONNX files.
        score_threshold: smallest score of a detection.

    Returns:
        The names of the models; that which takes images comes last.

    Raises:
        InputError: the directory is not empty, or cannot be written.
        BundleError: with `engines`, there is none of a stage.
        BackendError: with `engines`, one is stale.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(
            "the model repository already exists", file=directory, remedy="choose another directory"
        )
    files: dict[str, bytes] = {}
    for stage in bundle.manifest.stages:
        model = f"{name}_{stage}"
        part = _engine(bundle, stage, model) if engines else _onnx(bundle, stage, model)
        files |= {f"{model}/{path}": content for path, content in part.items()}
    files |= {
        f"{name}/{path}": one for path, one in _cascade(bundle, name, score_threshold).items()
    }
    _write(directory, files)
    return [*(f"{name}_{stage}" for stage in bundle.manifest.stages), name]


def _onnx(bundle: Bundle, stage: str, model: str) -> dict[str, bytes]:
    spec = bundle.manifest.stages[stage]
    content = inline_functions(load_stage(bundle.stage_path(stage), stage, spec))
    return {
        "config.pbtxt": stage_config(model, spec, profiles=None).encode(),
        "1/model.onnx": content.SerializeToString(),
    }


def _engine(bundle: Bundle, stage: str, model: str) -> dict[str, bytes]:
    record, plan = _record(bundle, stage)
    config = stage_config(model, bundle.manifest.stages[stage], profiles=len(record.key.profiles))
    return {
        "config.pbtxt": config.encode(),
        "1/model.plan": plan.read_bytes(),
        "1/model.json": record.to_json().encode(),
    }


def _record(bundle: Bundle, stage: str) -> tuple[EngineMetadata, Path]:
    """Read the record of the engine for all sizes, and check that it is of the stage's file."""
    plan = bundle.root / "engines" / _TARGET / f"{stage}.plan"
    if not plan.is_file():
        raise BundleError(
            f"the stage {stage!r} has no engine for all sizes of {_TARGET}",
            file=plan,
            remedy=f"run: foveate compile {bundle.root} --target {_TARGET}",
        )
    record = read_metadata(plan)
    source = bundle.manifest.files[bundle.manifest.stages[stage].file]
    record.check_sources(onnx=source.sha256, plugins=record.key.plugins)
    return record, plan


def _cascade(bundle: Bundle, name: str, score_threshold: float) -> dict[str, bytes]:
    parameters = {"score_threshold": str(score_threshold)}
    if bundle.manifest.classifies:
        parameters["class_names"] = json.dumps(bundle.manifest.class_names)
    config = cascade_config(name, bundle.manifest, parameters)
    return {
        "config.pbtxt": config.encode(),
        "requirements.txt": f"foveate=={__version__}\n".encode(),
        "1/manifest.json": bundle.manifest.to_json().encode(),
        "1/model.py": Path(__file__).with_name("model.py").read_bytes(),
    }


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write all files aside, and rename the whole: no half of a repository is ever served."""
    try:
        with new_folder(directory, overwrite=False) as fresh:
            for name, content in files.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(content)
    except OSError as error:
        raise InputError(
            f"the model repository cannot be written ({error.strerror})",
            file=directory,
            remedy="free some space, or choose another directory",
        ) from error
