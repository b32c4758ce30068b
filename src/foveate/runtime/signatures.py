# SPDX-License-Identifier: Apache-2.0
"""Checks that engines have the tensors that the manifest lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foveate.bundle import Bundle
    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.engines import Engine


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
        if fault is not None:
            raise BundleError(
                f"the stage {stage!r} has {fault}",
                file=bundle.stage_path(stage),
                remedy="export the bundle again",
            )


def check_classifies(bundle: Bundle, engines: Mapping[str, Engine]) -> None:
    """Check that there is a classifier.

    Raises:
        BundleError: There is none.
    """
    if "classify" not in engines:
        raise BundleError(
            "the bundle only proposes: it has no stage 'classify'",
            file=bundle.root,
            remedy="use Pipeline.propose, or a bundle exported with a classifier",
        )


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
            return f"{other}, the manifest lists {one}"
    return None
