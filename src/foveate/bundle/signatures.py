# SPDX-License-Identifier: Apache-2.0
"""Checks that the tensors of the stages are those that the pipeline needs."""

import re
from collections.abc import Iterable, Iterator

from foveate.bundle.manifest import Manifest, StageSpec, TensorSpec
from foveate.errors import BundleError

_MOST_CHANNELS = 8192
# Names of the tensors between the stages; the number only distinguishes the maps.
_MAPS = re.compile("map_[1-9][0-9]{0,2}")
_GRIDS = re.compile("scores|vectors|horizontal_[1-9]")
_NAMES = {
    "propose": (re.compile("image"), re.compile(f"{_GRIDS.pattern}|{_MAPS.pattern}")),
    "refine": (_GRIDS, re.compile("logits|mask_scores")),
    "features": (re.compile(f"image|{_MAPS.pattern}"), _MAPS),
    "classify": (re.compile(f"{_MAPS.pattern}|boxes"), re.compile("probabilities|deltas")),
}
# Coordinates and scores stay float32: float16 is exact only up to 2048, and ties would reorder scores.
_HALF = re.compile("image|vectors|horizontal_[1-9]|logits|map_[1-9][0-9]{0,2}")
_NEEDED = {"propose": {"scores"}, "refine": {"logits"}, "classify": {"probabilities", "deltas"}}


def check_signatures(manifest: Manifest) -> None:
    """Check the names, dtypes, shapes and strides of the inputs and outputs of all stages.

    Raises:
        BundleError: The pipeline cannot use one of them.
    """
    for stage, spec in manifest.networks.items():
        fault = _unusable(stage, spec) or _wrong_stride(stage, spec, manifest)
        fault = fault or _wrong_shape(spec, manifest)
        if fault is not None:
            raise BundleError(f"the stage {stage!r} has {fault}", remedy="export the bundle again")
    for reader, written in _written(manifest):
        fault = _missing(manifest.networks[reader].inputs, written)
        if fault is not None:
            raise BundleError(f"the stage {reader!r} {fault}", remedy="export the bundle again")


def _written(manifest: Manifest) -> Iterator[tuple[str, list[TensorSpec]]]:
    """Yield each stage that reads outputs of others, and those that it may read."""
    stages = manifest.networks
    propose = list(stages["propose"].outputs)
    yield "refine", propose
    if manifest.classifies:
        shared = propose if manifest.shares_trunk else []
        yield "features", shared
        yield "classify", [*shared, *stages["features"].outputs]


def _missing(inputs: Iterable[TensorSpec], written: Iterable[TensorSpec]) -> str | None:
    """Describe the first input, except an image or boxes, that no other stage writes as it is."""
    sources = {tensor.name: tensor for tensor in written}
    for tensor in inputs:
        if tensor.name in ("image", "boxes"):
            continue
        source = sources.get(tensor.name)
        if source is None:
            return f"reads {tensor.name!r}, which no stage before it writes"
        alike = (tensor.dtype, tensor.shape[1:2]) == (source.dtype, source.shape[1:2])
        if _MAPS.fullmatch(tensor.name) and not alike:
            return f"reads {tensor}, which is written as {source}"
    return None


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
        if tensor.name == "mask_scores" and not (tensor.has_rows and tensor.shape[1:] == (1,)):
            return f"{tensor}, expected (windows, 1)"
    for tensor in spec.outputs if stage in ("propose", "features") else ():
        channels = tensor.shape[1] if len(tensor.shape) == 4 else None
        if not isinstance(channels, int) or channels > _MOST_CHANNELS:
            return (
                f"{tensor}, expected (1, channels, rows, columns) with at most "
                f"{_MOST_CHANNELS} channels"
            )
    return None


def _wrong_shape(spec: StageSpec, manifest: Manifest) -> str | None:
    """Describe an output whose shape contradicts another part of the manifest."""
    side, classes = manifest.mask.size, len(manifest.class_names) + 1
    expected = {
        "logits": ((side, side), f"mask.size {side}"),
        "probabilities": ((classes,), f"{classes - 1} class_names"),
        "deltas": ((classes, 4), f"{classes - 1} class_names"),
    }
    for tensor in spec.outputs:
        lengths, why = expected.get(tensor.name, (tensor.shape[1:], ""))
        if tensor.shape[1:] != lengths:
            text = ", ".join(map(str, (*tensor.shape[:1], *lengths)))
            return f"{tensor}, expected ({text}) for {why}"
    return None


def _wrong_stride(stage: str, spec: StageSpec, manifest: Manifest) -> str | None:
    """Describe an output whose stride does not fit the sides that the runtime gives an image."""
    for tensor in spec.outputs:
        if not tensor.name.startswith(("map_", "horizontal_")):
            if tensor.stride is not None:
                return f"{tensor.name!r} with a stride, which only maps have"
        elif stage == "features" and manifest.shares_trunk:
            # It halves the maps that it reads as often as it likes: sides are rounded down.
            coarsest = manifest.stages["propose"].largest_stride
            if tensor.stride is None or tensor.stride % coarsest:
                return (
                    f"{tensor.name!r} of stride {tensor.stride}, expected a multiple of {coarsest}"
                )
        else:
            sides = spec.largest_stride if stage == "features" else manifest.windows.stride
            if tensor.stride is None or sides % tensor.stride:
                return f"{tensor.name!r} of stride {tensor.stride}, expected a divisor of {sides}"
    return None
