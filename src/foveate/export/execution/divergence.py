# SPDX-License-Identifier: Apache-2.0
"""Differences between the outputs of two models, and the first layer in which they diverge."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import onnx

from foveate.arrays import Array
from foveate.export.execution.graph import constants
from foveate.export.execution.sessions import exposing, session_function


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Differences between an output of a stage and the reference's, over all calls for an image.

    Args:
        calls: Number of runs of the stage; it runs once per level of the pyramid.
        values: Number of values compared.
        largest: Largest absolute value of the reference.
        max_error: Largest absolute difference.
        mean_error: Mean absolute difference.
        cosine: Cosine of the angle between both, as vectors; 1 if both are zero.
        not_finite: Number of positions where only one of the two is finite, or neither is and they
            differ.
        misshapen: Number of calls with outputs of another shape, which are not compared.
    """

    calls: int
    values: int
    largest: float
    max_error: float
    mean_error: float
    cosine: float
    not_finite: int
    misshapen: int

    @property
    def relative(self) -> float:
        """Largest difference divided by max(1, largest value)."""
        return self.max_error / max(1.0, self.largest)


class Accumulator:
    """A ``Difference`` that is accumulated over calls."""

    def __init__(self) -> None:
        self._calls = self._values = self._not_finite = self._misshapen = 0
        self._largest = self._max = self._sum = 0.0
        self._dot = self._expected = self._found = 0.0

    def add(self, expected: Array, found: Array) -> None:
        """Add the arrays of one call, of any shape and floating-point type."""
        self._calls += 1
        if expected.shape != found.shape:
            self._misshapen += 1
            return
        one, other = expected.astype(np.float64), found.astype(np.float64)
        finite = np.isfinite(one) & np.isfinite(other)
        if not finite.all():
            same = (one == other) | (np.isnan(one) & np.isnan(other))
            self._not_finite += int((~finite & ~same).sum())
            one, other = one[finite], other[finite]
        error = np.abs(one - other)
        self._values += error.size
        self._largest = max(self._largest, float(np.abs(one).max(initial=0.0)))
        self._max = max(self._max, float(error.max(initial=0.0)))
        self._sum += float(error.sum())
        self._dot += float((one * other).sum())
        self._expected += float((one * one).sum())
        self._found += float((other * other).sum())

    def result(self) -> Difference:
        """Return the difference over the calls added so far."""
        norms = sqrt(self._expected) * sqrt(self._found)
        # The cosine with a zero vector is undefined: 1 if both vectors are zero, and 0 otherwise.
        alike = 1.0 if self._expected == self._found else 0.0
        return Difference(
            calls=self._calls,
            values=self._values,
            largest=self._largest,
            max_error=self._max,
            mean_error=self._sum / self._values if self._values else 0.0,
            cosine=self._dot / norms if norms else alike,
            not_finite=self._not_finite,
            misshapen=self._misshapen,
        )


def relative_error(expected: Array, found: Array) -> float:
    """Return max|difference| / max(1, max|expected|).

    It is infinite if the shapes differ or values such as NaN are not in the same places.
    """
    accumulator = Accumulator()
    accumulator.add(expected, found)
    result = accumulator.result()
    return float("inf") if result.not_finite or result.misshapen else result.relative


Models = tuple[onnx.ModelProto, onnx.ModelProto]
"""Model of the reference, then the model under test."""

_VALUES_PER_RUN = 24
"""Number of values of a graph in memory at a time; all values for a large image take gigabytes."""


@dataclass(frozen=True, kw_only=True)
class FirstDivergence:
    """The first layer whose output differs from the reference's, and the image that shows it."""

    stage: str
    node: str  # or the name of its output if it has none
    op: str
    value: str  # the name of its output
    error: float  # largest difference divided by max(1, largest value)
    parameters: tuple[str, ...]  # constant inputs that differ themselves
    image: str

    def __str__(self) -> str:
        weights = f", whose {' and '.join(map(repr, self.parameters))} differs"
        return (
            f"the first layer that diverges is {self.node!r} ({self.op}) of the stage "
            f"{self.stage!r}{weights if self.parameters else ''}: its output {self.value!r} differs "
            f"by {self.error:.1e} of the largest value, on {self.image}"
        )


def first_divergent_layer(
    models: Models, stage: str, inputs: dict[str, Array], tolerance: float, image: str
) -> FirstDivergence:
    """Return the first layer of a stage whose error exceeds the tolerance.

    If there is none, the layer with the largest error is returned. The tolerance is a share of
    max(1, largest value). Values of both graphs are compared if they have the same name.
    """
    nodes = _shared(*models)
    found: list[tuple[float, onnx.NodeProto, str]] = []
    for start in range(0, len(nodes), _VALUES_PER_RUN):
        some = nodes[start : start + _VALUES_PER_RUN]
        errors = _errors(models, inputs, [value for _, value in some])
        found += [(errors[value], node, value) for node, value in some]
        if not all(error <= tolerance for error in errors.values()):
            break
    # PyTorch can differ from its own export without any single layer being at fault.
    first = next((one for one in found if not one[0] <= tolerance), None)
    error, node, value = first or max(found, key=lambda one: one[0])
    return FirstDivergence(
        stage=stage,
        node=node.name or value,
        op=node.op_type,
        value=value,
        error=error,
        parameters=_parameters(models, inputs, node, tolerance) if first else (),
        image=image,
    )


def _shared(reference: onnx.ModelProto, model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str]]:
    """Return the values that both graphs compute from the inputs, in order."""
    fixed = constants(model) | constants(reference)
    theirs = {value for node in reference.graph.node for value in node.output}
    return [
        (node, value)
        for node in model.graph.node
        for value in node.output
        if value in theirs and value not in fixed
    ]


def _errors(models: Models, inputs: dict[str, Array], values: list[str]) -> dict[str, float]:
    expected, found = (session_function(exposing(one, values))(inputs) for one in models)
    return {name: relative_error(expected[name], found[name]) for name in values}


def _parameters(
    models: Models, inputs: dict[str, Array], node: onnx.NodeProto, tolerance: float
) -> tuple[str, ...]:
    fixed = [constants(one) - {""} for one in models]
    names = [name for name in node.input if all(name in one for one in fixed)]
    errors = _errors(models, inputs, names) if names else {}
    return tuple(name for name in names if not errors[name] <= tolerance)
