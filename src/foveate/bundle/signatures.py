# SPDX-License-Identifier: Apache-2.0
"""Checks that the tensors of the stages are those that the pipeline needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from foveate.errors import BundleError

if TYPE_CHECKING:
    from foveate.bundle.manifest import Manifest, StageSpec

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


def check_signatures(manifest: Manifest) -> None:
    """Check the names, dtypes, channels and strides of the inputs and outputs of all stages.

    Raises:
        BundleError: The pipeline cannot use one of them.
    """
    for stage, spec in manifest.networks.items():
        fault = _unusable(stage, spec) or _wrong_stride(stage, spec, manifest)
        if fault is not None:
            raise BundleError(f"the stage {stage!r} has {fault}", remedy="export the bundle again")
    for source, reader, also in (("propose", "refine", ()), ("features", "classify", ("boxes",))):
        if reader in manifest.networks:
            there = {tensor.name for tensor in manifest.networks[source].outputs} | set(also)
            missing = {tensor.name for tensor in manifest.networks[reader].inputs} - there
            if missing:
                raise BundleError(
                    f"the stage {reader!r} reads {min(missing)!r}, which {source!r} does not write",
                    remedy="export the bundle again",
                )


def _unusable(stage: str, spec: StageSpec) -> str | None:
    """Describe the first tensor of a stage that the pipeline cannot use, if there is one."""
    for tensors, known in zip((spec.inputs, spec.outputs), _NAMES[stage], strict=True):
        for tensor in tensors:
            if not known.fullmatch(tensor.name):
                return f"{tensor.name!r}, which is not a tensor of the pipeline"
    missing = _NEEDED.get(stage, set()) - {tensor.name for tensor in spec.outputs}
    if missing:
        return f"no output {min(missing)!r}"
    for tensor in (*spec.inputs, *spec.outputs):
        dtypes = ("float32", "float16") if _HALF.fullmatch(tensor.name) else ("float32",)
        if tensor.dtype not in dtypes:
            return f"{tensor}, expected {' or '.join(dtypes)}"
    for tensor in spec.outputs if stage in ("propose", "features") else ():
        channels = tensor.shape[1] if len(tensor.shape) == 4 else None
        if not isinstance(channels, int) or channels > _MOST_CHANNELS:
            return (
                f"{tensor}, expected (1, channels, rows, columns) with at most "
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
