# SPDX-License-Identifier: Apache-2.0
"""The first layer that drifts from the reference, and the image that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.export.checks.graph import constants
from foveate.export.checks.parity import calls_of
from foveate.export.checks.statistics import relative_error
from foveate.export.engines.stage_model import load_stage
from foveate.export.execution.reference import Reference
from foveate.export.execution.sessions import Function, exposing, session_function

_AT_ONCE = 24
"""Values of a graph that are held at a time: all of a large image's would be gigabytes."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A layer whose output is the first to differ.

    Attributes:
        stage: its stage.
        node: its name; that of the output where the graphs share no name before it.
        op: its operator.
        value: its output.
        error: largest difference over max(1, largest value).
        parameters: its constant inputs that differ themselves.
        image: the first image that shows it.
    """

    stage: str
    node: str
    op: str
    value: str
    error: float
    parameters: tuple[str, ...]
    image: str

    def __str__(self) -> str:
        weights = f", whose {' and '.join(map(repr, self.parameters))} differs"
        return (
            f"the first layer that drifts is {self.node!r} ({self.op}) of the stage {self.stage!r}"
            f"{weights if self.parameters else ''}: its output {self.value!r} differs by "
            f"{self.error:.1e} of the largest value, on {self.image}"
        )


def first_drift(
    bundle: Bundle,
    reference: Reference,
    images: Sequence[Path],
    tolerances: Mapping[str, float],
    tell: Callable[[int, int], None] | None = None,
) -> Drift | None:
    """Find the first layer that drifts.

    On each image, stages are tried in the cascade's order with the reference's inputs, on the
    smallest level that shows a difference at a stage's outputs. Values of both graphs are compared
    where they have the same name.

    Args:
        bundle: that drifts.
        reference: gives the models to compare with.
        images: files.
        tolerances: stage -> largest difference, as a share of max(1, largest value).
        tell: is told the number of images done, and of all.

    Returns:
        None if the outputs of all stages are within the tolerance on all images.
    """
    own = {name: session_function(bundle.stage_path(name)) for name in bundle.manifest.networks}
    for number, image in enumerate(images):
        for stage, inputs in calls_of(bundle, reference.functions, image):
            tolerance = tolerances[stage]
            if _differs(own[stage], reference.functions[stage], inputs, tolerance):
                model = load_stage(bundle.stage_path(stage), stage, bundle.manifest.stages[stage])
                pair = (reference.model(stage), model)
                return first_difference(pair, stage, inputs, tolerance, str(image))
        if tell is not None:
            tell(number + 1, len(images))
    return None


def _differs(own: Function, other: Function, inputs: dict[str, Array], tolerance: float) -> bool:
    expected, found = other(inputs), own(inputs)
    errors = (relative_error(expected[name], found[name]) for name in expected)
    return not all(error <= tolerance for error in errors)


def first_difference(
    models: tuple[onnx.ModelProto, onnx.ModelProto],
    stage: str,
    inputs: dict[str, Array],
    tolerance: float,
    image: str,
) -> Drift:
    """Find the first layer of a stage whose output differs; the one that differs most if none does.

    Args:
        models: the reference's, and the one that drifts.
        stage: its name, for the result.
        inputs: that show it.
        tolerance: largest difference, as a share of max(1, largest value).
        image: where the inputs come from, for the result.
    """
    nodes = _shared(*models)
    worst: tuple[float, onnx.NodeProto, str] | None = None
    for start in range(0, len(nodes), _AT_ONCE):
        some = nodes[start : start + _AT_ONCE]
        errors = _errors(models, inputs, [value for _, value in some])
        for node, value in some:
            if not errors[value] <= tolerance:
                return Drift(
                    stage=stage,
                    node=node.name or value,
                    op=node.op_type,
                    value=value,
                    error=errors[value],
                    parameters=_parameters(models, inputs, node, tolerance),
                    image=image,
                )
            if worst is None or errors[value] > worst[0]:
                worst = (errors[value], node, value)
    # PyTorch differs where its own export, run by ONNX Runtime, does not: no layer is at fault alone.
    assert worst is not None
    error, node, value = worst
    return Drift(
        stage=stage,
        node=node.name or value,
        op=node.op_type,
        value=value,
        error=error,
        parameters=(),
        image=image,
    )


def _shared(reference: onnx.ModelProto, model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str]]:
    """Values that both graphs compute from the inputs, in order."""
    theirs = set(_values(reference))
    fixed = constants(model)
    return [
        (node, value)
        for node in model.graph.node
        for value in node.output
        if value in theirs and value not in fixed
    ]


def _values(model: onnx.ModelProto) -> Iterator[str]:
    fixed = constants(model)
    for node in model.graph.node:
        yield from (value for value in node.output if value not in fixed)


def _errors(
    models: tuple[onnx.ModelProto, onnx.ModelProto], inputs: dict[str, Array], values: list[str]
) -> dict[str, float]:
    expected, found = (session_function(exposing(one, values))(inputs) for one in models)
    return {name: relative_error(expected[name], found[name]) for name in values}


def _parameters(
    models: tuple[onnx.ModelProto, onnx.ModelProto],
    inputs: dict[str, Array],
    node: onnx.NodeProto,
    tolerance: float,
) -> tuple[str, ...]:
    fixed = [constants(one) - {""} for one in models]
    names = [name for name in node.input if all(name in one for one in fixed)]
    if not names:
        return ()
    errors = _errors(models, inputs, names)
    return tuple(name for name in names if not errors[name] <= tolerance)
