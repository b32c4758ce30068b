# SPDX-License-Identifier: Apache-2.0
"""Checks that engines have the tensors that the manifest lists and the pipeline needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from foveate.errors import BundleError

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.bundle.manifest import Manifest, StageSpec, TensorSpec
    from foveate.runtime.engines import Engine

_MOST_CHANNELS = 8192
# Names of the tensors between the stages; the number only distinguishes the maps.
_MAPS = re.compile("map_[1-9][0-9]{0,2}")
_GRIDS = re.compile("scores|vectors|horizontal_[1-9]")
_NAMES = {
    "propose": (re.compile("image"), _GRIDS),
    "refine": (_GRIDS, re.compile("logits")),
    "features": (re.compile("image"), _MAPS),
    "classify": (re.compile(f"{_MAPS.pattern}|boxes"), re.compile("probabilities|deltas")),
}
# Coordinates and scores stay float32: float16 is exact only up to 2048, and ties would reorder scores.
_HALF = re.compile("image|vectors|horizontal_[1-9]|logits|map_[1-9][0-9]{0,2}")
_NEEDED = {"propose": {"scores"}, "refine": {"logits"}, "classify": {"probabilities", "deltas"}}


def check_engines(bundle: Bundle, engines: Mapping[str, Engine]) -> None:
    """Check that each stage has an engine, with the tensors that the manifest lists.

    Raises:
        BundleError: An engine is missing, or a name, a dtype or a shape does not fit.
    """
    for stage, spec in bundle.manifest.networks.items():
        if stage not in engines:
            raise BundleError(f"the stage {stage!r} has no engine", file=bundle.root)
        engine = engines[stage]
        fault = _differing(spec.inputs, engine.inputs) or _differing(spec.outputs, engine.outputs)
        if fault is None:
            fault = _unusable(stage, spec.inputs, spec.outputs)
        if fault is None:
            fault = _wrong_stride(stage, spec, bundle.manifest)
        if fault is not None:
            raise BundleError(
                f"the stage {stage!r} has {fault}",
                file=bundle.stage_path(stage),
                remedy="export the bundle again",
            )
    _check_sources(bundle)


def _differing(listed: tuple[TensorSpec, ...], found: tuple[TensorSpec, ...]) -> str | None:
    """Describe how the tensors of an engine differ from those of the manifest, if they do."""
    names = sorted(tensor.name for tensor in listed), sorted(tensor.name for tensor in found)
    if names[0] != names[1]:
        return f"{', '.join(names[1])}, the manifest lists {', '.join(names[0])}"
    tensors = {tensor.name: tensor for tensor in found}
    for one in listed:
        other = tensors[one.name]
        pairs = zip(one.shape, other.shape, strict=False)
        fits = len(one.shape) == len(other.shape) and all(
            ours == theirs or isinstance(theirs, str) for ours, theirs in pairs
        )
        if not fits or one.dtype != other.dtype:
            return f"{_describe(other)}, the manifest lists {_describe(one)}"
    return None


def _unusable(
    stage: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> str | None:
    """Describe the first tensor of a stage that the pipeline cannot use, if there is one."""
    for tensors, known in zip((inputs, outputs), _NAMES[stage], strict=True):
        for tensor in tensors:
            if not known.fullmatch(tensor.name):
                return f"{tensor.name!r}, which is not a tensor of the pipeline"
    missing = _NEEDED.get(stage, set()) - {tensor.name for tensor in outputs}
    if missing:
        return f"no output {min(missing)!r}"
    for tensor in (*inputs, *outputs):
        dtypes = ("float32", "float16") if _HALF.fullmatch(tensor.name) else ("float32",)
        if tensor.dtype not in dtypes:
            return f"{_describe(tensor)}, expected {' or '.join(dtypes)}"
    for tensor in outputs if stage in ("propose", "features") else ():
        channels = tensor.shape[1] if len(tensor.shape) == 4 else None
        if not isinstance(channels, int) or channels > _MOST_CHANNELS:
            return (
                f"{_describe(tensor)}, expected (1, channels, rows, columns) with at most "
                f"{_MOST_CHANNELS} channels"
            )
    return None


def _wrong_stride(stage: str, spec: StageSpec, manifest: Manifest) -> str | None:
    """Describe an output whose stride does not divide the sides that the runtime gives an image."""
    sides = manifest.windows.stride
    if stage == "features" and manifest.features is not None:
        sides = manifest.features.multiple
    for tensor in spec.outputs:
        if not tensor.name.startswith(("map_", "horizontal_")):
            if tensor.stride is not None:
                return f"{tensor.name!r} with a stride, which only maps have"
        elif tensor.stride is None or sides % tensor.stride:
            return f"{tensor.name!r} of stride {tensor.stride}, expected a divisor of {sides}"
    return None


def _check_sources(bundle: Bundle) -> None:
    """Check that the stages before refine and classify write what these stages read."""
    stages = bundle.manifest.networks
    for source, reader, also in (("propose", "refine", ()), ("features", "classify", ("boxes",))):
        if reader in stages:
            there = {tensor.name for tensor in stages[source].outputs} | set(also)
            missing = {tensor.name for tensor in stages[reader].inputs} - there
            if missing:
                raise BundleError(
                    f"the stage {reader!r} reads {min(missing)!r}, which {source!r} does not write",
                    file=bundle.root,
                    remedy="export the bundle again",
                )


def _describe(tensor: TensorSpec) -> str:
    return f"{tensor.name} of {tensor.dtype} ({', '.join(map(str, tensor.shape))})"
