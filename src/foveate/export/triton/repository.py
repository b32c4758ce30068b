# SPDX-License-Identifier: Apache-2.0
"""Export of a bundle as a model repository of Triton Inference Server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from foveate import __version__
from foveate.bundle import Bundle
from foveate.bundle.engine_metadata import read_metadata
from foveate.bundle.manifest import Manifest, StageSpec, TensorSpec
from foveate.errors import BackendError, BundleError, InputError
from foveate.export.execution.stage_model import inline_functions, load_stage
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD
from foveate.system.files import new_folder
from foveate.system.resources import remedy_of

_TYPES = {
    "bool": "TYPE_BOOL",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "string": "TYPE_STRING",
    "uint8": "TYPE_UINT8",
}


def _tensor(spec: TensorSpec, *, is_shape: bool = False) -> list[str]:
    # Triton writes a dimension that varies as -1.
    dims = [length if isinstance(length, int) else -1 for length in spec.shape]
    lines = [f"    name: {json.dumps(spec.name)}", f"    data_type: {_TYPES[spec.dtype]}"]
    return [*lines, f"    dims: {dims}", *["    is_shape_tensor: true"] * is_shape]


def stage_config(name: str, spec: StageSpec, *, profiles: int | None) -> str:
    """Return the configuration of a stage, in protobuf's text format.

    ``profiles`` is the number of optimization profiles of its engine; None for an ONNX file.
    """
    # Written as text, since Triton's schema comes only with its client, which an export does not
    # need. ``max_batch_size: 0`` because every tensor has its own batch axis.
    compiled = profiles is not None
    # For TensorRT, the values of a size are a shape tensor.
    inputs = [_tensor(one, is_shape=compiled and one.name == "size") for one in spec.inputs]
    group = ["    count: 1", "    kind: KIND_GPU" if compiled else "    kind: KIND_AUTO"]
    if profiles is not None and profiles > 1:
        # Triton chooses the profile whose optimum shape is the nearest.
        group.append(f"    profile: {json.dumps([str(number) for number in range(profiles)])}")
    lines = [
        f"name: {json.dumps(name)}",
        f'platform: "{"tensorrt_plan" if compiled else "onnxruntime_onnx"}"',
        "max_batch_size: 0",
        *_repeated("input", inputs),
        *_repeated("output", [_tensor(one) for one in spec.outputs]),
        *_repeated("instance_group", [group]),
    ]
    return "\n".join(lines) + "\n"


def cascade_outputs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the outputs of the whole cascade."""
    specs = [
        TensorSpec(name="boxes", dtype="float32", shape=("objects", 4)),
        TensorSpec(name="scores", dtype="float32", shape=("objects",)),
        TensorSpec(name="labels", dtype="int64", shape=("objects",)),
        TensorSpec(name="masks", dtype="bool", shape=("objects", "height", "width")),
        TensorSpec(name="rle", dtype="string", shape=("objects",)),
    ]
    return tuple(one for one in specs if manifest.classifies or one.name != "labels")


def cascade_config(name: str, manifest: Manifest, parameters: Mapping[str, str]) -> str:
    """Return the configuration of the Python model that calls the stages."""
    image = TensorSpec(name="image", dtype="uint8", shape=("height", "width", 3))
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "python"',
        "max_batch_size: 0",
        *_repeated("input", [_tensor(image)]),
        *_repeated("output", [_tensor(one) for one in cascade_outputs(manifest)]),
        *_repeated("instance_group", [["    count: 1", "    kind: KIND_CPU"]]),
    ]
    for key, value in parameters.items():
        string = f"{{ string_value: {json.dumps(value)} }}"
        lines += ["parameters {", f"    key: {json.dumps(key)}", f"    value: {string}", "}"]
    return "\n".join(lines) + "\n"


def _repeated(field: str, entries: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"{field} ["
    for number, entry in enumerate(entries):
        yield "  {"
        yield from entry
        yield "  }," if number + 1 < len(entries) else "  }"
    yield "]"


_TARGET = "tensorrt"
"""Target whose engines Triton can load; it has no backend for TensorRT for RTX."""


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
        bundle: Bundle to serve.
        directory: Directory of the repository, which must not exist, or be empty.
        name: Name of the model that takes images; the model of a stage is ``<name>_<stage>``.
        engines: Whether to serve the TensorRT engines of the bundle in place of its ONNX files.
        score_threshold: Smallest score of a detection.

    Returns:
        The names of the models; the one that takes images comes last.

    Raises:
        InputError: The directory is not empty, or cannot be written.
        BundleError: With ``engines``, a stage has no engine.
        BackendError: With ``engines``, an engine is stale or needs plugins.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(
            "the model repository already exists", file=directory, remedy="choose another directory"
        )
    stage_files = _engine if engines else _onnx
    models = {f"{name}_{stage}": stage for stage in bundle.manifest.stages}
    parts = {model: stage_files(bundle, stage, model) for model, stage in models.items()}
    parts[name] = _cascade(bundle, name, score_threshold)
    _write(directory, parts)
    return list(parts)


def _onnx(bundle: Bundle, stage: str, model: str) -> dict[str, bytes]:
    spec = bundle.manifest.stages[stage]
    content = inline_functions(load_stage(bundle, stage))
    return {
        "config.pbtxt": stage_config(model, spec, profiles=None).encode(),
        "1/model.onnx": content.SerializeToString(),
    }


def _engine(bundle: Bundle, stage: str, model: str) -> dict[str, bytes]:
    """Return the files of a stage's engine for all sizes, after checking its source."""
    plan = bundle.root / "engines" / _TARGET / f"{stage}.plan"
    if not plan.is_file():
        raise BundleError(
            f"the stage {stage!r} has no engine for all sizes of {_TARGET}",
            file=plan,
            remedy=f"run: foveate compile {bundle.root} --target {_TARGET}",
        )
    record, spec = read_metadata(plan), bundle.manifest.stages[stage]
    sha256 = bundle.manifest.files[spec.file].sha256
    record.check_sources(onnx=sha256, plugins=record.key.plugins)
    if record.key.plugins is not None:
        # Triton opens libraries with dlopen, which registers no plugin of ours.
        raise BackendError(
            f"the engine {record.name!r} needs plugins, which Triton does not register",
            file=plan,
            remedy=f"run: foveate compile {bundle.root} --target {_TARGET} --no-plugins",
        )
    return {
        "config.pbtxt": stage_config(model, spec, profiles=len(record.key.profiles)).encode(),
        "1/model.plan": plan.read_bytes(),
        "1/model.json": record.to_json().encode(),
    }


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


def _write(directory: Path, models: Mapping[str, Mapping[str, bytes]]) -> None:
    # Written to a temporary directory and renamed, so that no incomplete repository is ever served.
    try:
        with new_folder(directory, overwrite=False) as fresh:
            for model, files in models.items():
                (fresh / model / "1").mkdir(parents=True)
                for name, content in files.items():
                    (fresh / model / name).write_bytes(content)
    except OSError as error:
        raise InputError(
            f"the model repository cannot be written ({error.strerror})",
            file=directory,
            remedy=remedy_of(error, "choose another directory"),
        ) from error
