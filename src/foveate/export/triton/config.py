# SPDX-License-Identifier: Apache-2.0
"""`config.pbtxt` of the models of a repository, in protobuf's text format.

NOTE: Written as text, since Triton's schema comes only with its client, which no export needs. The
tests read every file with that schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from foveate.bundle.manifest import Manifest, StageSpec, TensorSpec

_TYPES = {
    "bool": "TYPE_BOOL",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "string": "TYPE_STRING",
    "uint8": "TYPE_UINT8",
}


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """One input or output; in TensorRT the values of a size are an input of their own kind."""

    spec: TensorSpec
    is_shape: bool = False

    def lines(self) -> Iterator[str]:
        dims = [length if isinstance(length, int) else -1 for length in self.spec.shape]
        yield f"    name: {json.dumps(self.spec.name)}"
        yield f"    data_type: {_TYPES[self.spec.dtype]}"
        yield f"    dims: {dims}"
        if self.is_shape:
            yield "    is_shape_tensor: true"


def stage_config(name: str, spec: StageSpec, *, profiles: int | None) -> str:
    """Write the configuration of a stage.

    Every length is the tensor's own, also that of the batch: Triton must not add one.

    Args:
        name: of the model.
        spec: its inputs and outputs.
        profiles: number of optimisation profiles of its engine; None for an ONNX file.
    """
    compiled = profiles is not None
    inputs = [_Tensor(spec=one, is_shape=compiled and one.name == "size") for one in spec.inputs]
    group = ["    count: 1", "    kind: KIND_GPU" if compiled else "    kind: KIND_AUTO"]
    if profiles is not None and profiles > 1:
        # Triton takes the profile whose best shape is the nearest.
        group.append(f"    profile: {json.dumps([str(number) for number in range(profiles)])}")
    lines = [
        f"name: {json.dumps(name)}",
        f'platform: "{"tensorrt_plan" if compiled else "onnxruntime_onnx"}"',
        "max_batch_size: 0",
        *_repeated("input", [list(one.lines()) for one in inputs]),
        *_repeated("output", [list(_Tensor(spec=one).lines()) for one in spec.outputs]),
        *_repeated("instance_group", [group]),
    ]
    return "\n".join(lines) + "\n"


def cascade_outputs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """List what the whole cascade gives; N objects, H and W of the image."""
    specs = [
        TensorSpec(name="boxes", dtype="float32", shape=("objects", 4)),
        TensorSpec(name="scores", dtype="float32", shape=("objects",)),
        TensorSpec(name="labels", dtype="int64", shape=("objects",)),
        TensorSpec(name="masks", dtype="bool", shape=("objects", "height", "width")),
        TensorSpec(name="rle", dtype="string", shape=("objects",)),
    ]
    return tuple(one for one in specs if manifest.classifies or one.name != "labels")


def cascade_config(name: str, manifest: Manifest, parameters: Mapping[str, str]) -> str:
    """Write the configuration of the Python model that calls the stages."""
    image = TensorSpec(name="image", dtype="uint8", shape=("height", "width", 3))
    outputs = [list(_Tensor(spec=one).lines()) for one in cascade_outputs(manifest)]
    entries = [
        [f"    key: {json.dumps(key)}", f"    value: {{ string_value: {json.dumps(value)} }}"]
        for key, value in parameters.items()
    ]
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "python"',
        "max_batch_size: 0",
        *_repeated("input", [list(_Tensor(spec=image).lines())]),
        *_repeated("output", outputs),
        *_repeated("instance_group", [["    count: 1", "    kind: KIND_CPU"]]),
        *(line for entry in entries for line in ("parameters {", *entry, "}")),
    ]
    return "\n".join(lines) + "\n"


def _repeated(field: str, entries: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"{field} ["
    for number, entry in enumerate(entries):
        yield "  {"
        yield from entry
        yield "  }," if number + 1 < len(entries) else "  }"
    yield "]"
