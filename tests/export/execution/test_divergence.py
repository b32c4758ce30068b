# SPDX-License-Identifier: Apache-2.0
"""The first layer in which two small models diverge, and the figures of a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from foveate.export.execution.divergence import (
    Accumulator,
    FirstDivergence,
    first_divergent_layer,
    relative_error,
)

INPUTS = {"x": np.array([50.0, -100.0], np.float32)}


def chain(addends: Sequence[float]) -> onnx.ModelProto:
    """Return a model whose layer ``add_k`` adds ``addends[k]`` to the result ``y_k`` before it."""
    nodes = [
        helper.make_node("Add", [f"y_{k}" if k else "x", f"c_{k}"], [f"y_{k + 1}"], name=f"add_{k}")
        for k in range(len(addends))
    ]
    # The runtime computes it from constants alone, so it is no layer.
    nodes.append(helper.make_node("Neg", ["c_0"], ["negated"], name="negate"))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info(f"y_{len(addends)}", TensorProto.FLOAT, [2])],
        [
            numpy_helper.from_array(np.array(one, np.float32), f"c_{k}")
            for k, one in enumerate(addends)
        ],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def divergence(expected: Sequence[float], found: Sequence[float]) -> FirstDivergence:
    return first_divergent_layer((chain(expected), chain(found)), "s", INPUTS, 1e-3, "cat.png")


@pytest.mark.parametrize("layer", [0, 23, 24, 60])
def test_a_layer_is_found_however_many_are_before_it(layer: int) -> None:
    right = [0.0] * 70
    wrong = [4.0 if k == layer else 0.0 for k in range(70)]
    found = divergence(right, wrong)
    assert found.error == pytest.approx(0.04)
    assert replace(found, error=0.0) == FirstDivergence(
        stage="s",
        node=f"add_{layer}",
        op="Add",
        value=f"y_{layer + 1}",
        error=0.0,
        parameters=(f"c_{layer}",),
        image="cat.png",
    )


def test_without_a_layer_beyond_the_tolerance_the_one_with_the_largest_error_is_named() -> None:
    right = [0.0] * 40
    wrong = [0.0] * 40
    wrong[5], wrong[30], wrong[31] = 0.02, 0.05, -0.06
    found = divergence(right, wrong)
    assert (found.node, found.parameters) == ("add_30", ())
    assert found.error == pytest.approx(7e-4, rel=1e-2)
    assert str(found) == (
        "the first layer that diverges is 'add_30' (Add) of the stage 's': its output 'y_31' "
        f"differs by {found.error:.1e} of the largest value, on cat.png"
    )


def test_an_error_is_a_share_of_the_largest_value_of_the_reference() -> None:
    assert divergence([0.0], [-400.0]).error == pytest.approx(4.0)
    assert divergence([-400.0], [0.0]).error == pytest.approx(0.8)
    assert relative_error(np.array([0.5, -0.25]), np.array([0.5, 0.0])) == 0.25


def test_a_layer_without_a_name_is_named_by_its_output() -> None:
    models = chain([1.0]), chain([2.0])
    models[1].graph.node[0].name = ""
    found = first_divergent_layer(models, "s", INPUTS, 1e-3, "cat.png")
    assert (found.node, found.value) == ("y_1", "y_1")


def test_the_mean_error_is_of_all_finite_values_of_all_calls() -> None:
    accumulator = Accumulator()
    accumulator.add(np.array([1.0, 2.0, np.inf]), np.array([1.5, 1.0, np.inf]))
    accumulator.add(np.array([3.0]), np.array([3.0]))
    result = accumulator.result()
    assert (result.values, result.mean_error) == (3, 0.5)
    assert Accumulator().result().mean_error == 0.0


@pytest.mark.parametrize(
    ("expected", "found"), [(np.nan, 2.0), (2.0, np.nan), (np.inf, -np.inf), (np.inf, 3.0)]
)
def test_a_value_that_is_not_finite_in_the_same_way_is_an_infinite_error(
    expected: float, found: float
) -> None:
    assert relative_error(np.array([1.0, expected]), np.array([1.0, found])) == float("inf")


def test_half_precision_values_are_subtracted_in_double_precision() -> None:
    expected, found = np.array([60000.0], np.float16), np.array([-60000.0], np.float16)
    assert relative_error(expected, found) == 2.0


def test_outputs_for_no_window_at_all_are_equal() -> None:
    assert relative_error(np.zeros((0, 4)), np.zeros((0, 4))) == 0.0
