# SPDX-License-Identifier: Apache-2.0
"""Products of float32 matrices on sm_75: those that become convolutions, and those that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.samples.compiling import needs_rtx, request_for

from foveate.bundle import Bundle
from foveate.errors import BackendError
from foveate.export.engines.process import run_build
from foveate.export.engines.turing import check_products, float32_products, gemms_as_convolutions
from foveate.export.execution.stages import paste_stage
from foveate.export.to_onnx.onnx_graph import export_stage


def test_no_stage_of_mini_is_refused() -> None:
    bundle = Bundle.open("mini")
    for stage in bundle.manifest.stages:
        assert float32_products(onnx.load(bundle.stage_path(stage))) == []


def test_masks_as_bits_are_refused_with_another_remedy() -> None:
    """Its products are in a function body, and are float32 in a float16 bundle too."""
    with pytest.raises(BackendError) as caught:
        check_products(export_stage(paste_stage(56, 0.0)), "paste", Path("paste.onnx"))
    assert caught.value.what.endswith(" and 2 more")
    assert caught.value.remedy == "omit sm_75, or name the other stages with --stage"


def test_a_gemm_as_a_convolution_gives_the_same() -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((7, 5), np.float32)
    bias = generator.standard_normal(7, np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)],
        "stage",
        [value("x", TensorProto.FLOAT, ("rows", 5))],
        [value("y", TensorProto.FLOAT, ("rows", 7))],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    gemms_as_convolutions(model)
    onnx.checker.check_model(model, full_check=True)
    x = generator.standard_normal((11, 5), np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"x": x})
    assert {node.op_type for node in model.graph.node} == {"Unsqueeze", "Conv", "Squeeze"}
    np.testing.assert_allclose(found, x @ weight.T + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attributes", [{"transB": 0}, {"transB": 1, "alpha": 0.5}, {"transA": 1}])
def test_another_gemm_is_left_alone(attributes: dict[str, Any]) -> None:
    node = helper.make_node("Gemm", ["x", "weight"], ["y"], **attributes)
    model = helper.make_model(helper.make_graph([node], "stage", [], []))
    gemms_as_convolutions(model)
    assert list(model.graph.node) == [node]


@needs_rtx
def test_a_matrix_product_that_sm_75_lacks_is_refused_by_the_library_too(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (5, 8, 8)) for name in "xwy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "stage", values[:2], values[2:])
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "x.onnx")
    shape = (5, 8, 8)
    fixed = {"minimum": shape, "optimum": shape, "maximum": shape}
    profile = {"x": fixed, "w": fixed}
    request = request_for(tmp_path / "x.onnx", "classify", profile, "sm_75")
    with pytest.raises(
        BackendError, match=r"Turing \(SM75\): FP32 GEMM is not supported"
    ) as caught:
        run_build(request)
    assert caught.value.remedy == "omit sm_75, or export with --precision fp16"
