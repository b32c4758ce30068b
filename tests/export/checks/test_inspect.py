# SPDX-License-Identifier: Apache-2.0
"""Inspection: implementation and precision of nodes, and names that TensorRT would confuse."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.samples.verified_bundles import small_bundle, with_change, with_manifest

from foveate.bundle import Bundle
from foveate.bundle.engine_key import EngineKey, ShapeRange
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.bundle.manifest import FileSpec
from foveate.cli import inspect, invoke
from foveate.errors import BackendError, BundleError, ModelError
from foveate.export.checks.bundle_report import BundleReport, check_report, inspect_bundle
from foveate.export.checks.stage_checks import (
    Dispatched,
    Share,
    check_dispatch,
    check_engine,
    check_names,
    check_precision,
    collides,
    dispatch,
    engine_shares,
    shares,
)
from foveate.export.execution.graph import layers
from foveate.export.execution.stage_model import inline_functions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inspect")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return small_bundle(folder / "small")


@pytest.fixture(scope="module")
def report(bundle: Bundle) -> BundleReport:
    return inspect_bundle(bundle)


def test_a_stage_is_described(report: BundleReport) -> None:
    refine = next(one for one in report.stages if one.name == "refine")
    assert refine.inputs["vectors"] == "float32 windows x 64"
    assert refine.ranges["vectors"] == ShapeRange(minimum=(1, 64), optimum=(8, 64), maximum=(8, 64))
    assert refine.nodes["BilinearUpsample2d"] == 6  # four along the edges of maps
    assert refine.precision == {"fp32": Share(nodes=1.0, parameters=1.0, macs=1.0)}
    assert refine.unknown == 0
    # 8 windows: the layer that spreads the vector, the convolutions of 10, 20, 40, 80 and 160 cells,
    # and the last two once more along the edges of their maps.
    assert refine.macs == 8 * (4_480_000 + 16 * (80 * 288 + 160 * 36))
    check_report(report)


def test_a_bundle_of_one_class_has_no_plural(report: BundleReport) -> None:
    stage = replace(report.stages[0], unknown=1)
    found = "\n".join(inspect._lines(replace(report, classes=1, stages=(stage,))))
    assert "; 1 class; " in found
    assert "excluding 1 layer of unknown shape" in found


def test_our_nodes_run_by_their_body_and_the_rest_by_kernels(report: BundleReport) -> None:
    refine = next(one for one in report.stages if one.name == "refine")
    assert refine.dispatch["foveate::BilinearUpsample2d"] == {"body": 6}
    assert {one.implementation for one in refine.ours} == {"body"}
    others = [of for op, of in refine.dispatch.items() if "::" not in op]
    assert all(set(of) == {"kernel"} for of in others)


def test_another_implementation_than_the_intended_one_is_refused(bundle: Bundle) -> None:
    model = onnx.load(bundle.stage_path("refine"))
    nodes = dispatch(model, bundle.stage_path("refine"))
    check_dispatch("refine", nodes)
    wrong = [replace(one, implementation="kernel") for one in nodes]
    with pytest.raises(ModelError, match=r"'refine' by its kernel, expected its body"):
        check_dispatch("refine", wrong)


def test_an_operator_that_onnx_defines_by_a_body_may_be_run_by_it(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("HardSwish", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "graph", [value], [result])
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    check_dispatch("propose", dispatch(model, tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match="by its body, expected its kernel"):
        check_dispatch(
            "propose", [Dispatched(node="n", op="Conv", domain="", implementation="body")]
        )


def test_a_name_that_tensorrt_has_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """ONNX Runtime runs the body and TensorRT would use the sigmoid, which only this check finds."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "BilinearUpsample2d":
                node.op_type = "Upsample"
        model.functions[0].name = "Upsample"

    broken = with_change(bundle, tmp_path / "collides", "refine", change)
    text = "foveate::Upsample, which TensorRT confuses with its own Upsample"
    with pytest.raises(ModelError, match=text):
        check_report(inspect_bundle(broken))


def test_a_name_in_a_body_is_refused_too() -> None:
    model = onnx.ModelProto()
    model.functions.add().node.add(op_type="QMoE", domain="foveate", output=["y"])
    with pytest.raises(ModelError, match="foveate::QMoE"):
        check_names("refine", model)


@pytest.mark.parametrize("name", ["Sigmoid", "Resize", "TRT_FloorDiv", "GroupQueryAttention"])
def test_importers_of_tensorrt_are_known(name: str) -> None:
    assert collides(name)


@pytest.mark.parametrize("name", ["RoiMaxPool2d", "BilinearUpsample2d"])
def test_our_names_collide_with_none(name: str) -> None:
    assert not collides(name)


def model_of(nodes: list[onnx.NodeProto], result: int, weights: dict[str, Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "height", "width"])],
        [helper.make_tensor_value_info("y", result, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def precision_of(model: onnx.ModelProto) -> dict[str, Share]:
    return shares(layers(model, {"x": (1, 4, 6, 5)}))


def test_work_is_counted_by_precision() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["b", "v"], ["y"], kernel_shape=[1, 1]),
    ]
    weights = {"w": np.ones((2, 4, 3, 3), np.float32), "v": np.ones((6, 2, 1, 1), np.float16)}
    found = precision_of(model_of(nodes, TensorProto.FLOAT16, weights))
    wide, small = 2 * 4 * 3 * 36, 6 * 4 * 3 * 2
    assert found["fp32"].macs == pytest.approx(wide / (wide + small))
    assert found["fp16"].parameters == pytest.approx(12 / (72 + 12))
    assert found["fp16"].nodes == 0.5


@pytest.mark.parametrize("both", [True, False])
def test_int8_needs_both_sides_quantized(both: bool) -> None:
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["wide"])]
    data = "x"
    if both:
        nodes.append(helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"]))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["d"]))
        data = "d"
    nodes.append(helper.make_node("Conv", [data, "wide"], ["y"]))
    weights = {
        "w": np.ones((2, 4, 3, 3), np.int8),
        "s": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
    }
    found = precision_of(model_of(nodes, TensorProto.FLOAT, weights))
    assert list(found) == ["int8" if both else "fp32"]


def test_weights_stored_as_halves_do_not_make_a_stage_fp16(bundle: Bundle, tmp_path: Path) -> None:
    """The shipped bundle stores float16 and computes in float32, so a claim of fp16 is refused."""
    source = replace(bundle.manifest.source, precision={"propose": "fp16"})
    liar = with_manifest(bundle, tmp_path / "liar", source=source)
    report = inspect_bundle(liar)
    with pytest.raises(ModelError) as caught:
        check_report(report)
    assert str(caught.value) == (
        "the stage 'propose' claims fp16, but 100% of its multiplications are fp32 and 0% are "
        "fp16: export the bundle again with --precision fp16"
    )
    assert not any(one.problems for one in report.stages if one.name != "propose")


def test_a_stage_that_is_mostly_in_its_precision_passes() -> None:
    found = {
        "fp32": Share(nodes=0.7, parameters=0.9, macs=0.3),
        "fp16": Share(nodes=0.3, parameters=0.1, macs=0.7),
    }
    check_precision("propose", found, "fp16")
    with pytest.raises(ModelError, match="claims int8"):
        check_precision("propose", found, "int8")


def inspector(*kinds: str, key: str = "Format/Datatype") -> dict[str, Any]:
    return {"Layers": [{"Name": kind, "Outputs": [{"Name": "y", key: kind}]} for kind in kinds]}


def test_an_engine_that_is_silently_float32_is_refused() -> None:
    layers = inspector("Row major linear FP32", "Row major linear FP32")
    with pytest.raises(ModelError, match="claims fp16, but no layer of it is: 100% are fp32"):
        check_engine("propose", layers, "fp16")
    check_engine("propose", layers, "fp32")
    check_engine("propose", None, "fp16")


@pytest.mark.parametrize(
    ("kinds", "key"),
    [
        (("Channel major FP16 format where channel % 8 == 0", "Row major FP32"), "Format/Datatype"),
        (("Half", "Float"), "DataType"),
    ],
)
def test_both_forms_of_the_inspector_are_read(kinds: tuple[str, ...], key: str) -> None:
    layers = inspector(*kinds, key=key)
    assert engine_shares(layers) == {"fp16": 0.5, "fp32": 0.5}
    check_engine("propose", layers, "fp16")


def engine(bundle: Bundle, **changes: Any) -> EngineMetadata:
    key = EngineKey(
        target="tensorrt",
        stage="refine",
        onnx=bundle.manifest.files["refine.onnx"].sha256,
        plugins=None,
        tensorrt="10.13.0",
        cuda="13.0",
        archs=("sm_89",),
        options={},
        profiles=(),
    )
    parts = {name: changes.pop(name) for name in ("onnx", "plugins") if name in changes}
    plan = FileSpec(sha256=hashlib.sha256(b"plan").hexdigest(), size=4)
    record = EngineMetadata(
        name="refine",
        key=replace(key, **parts),
        plan=plan,
        dispatch={"BilinearUpsample2d": "body"},
        driver=None,
        device=None,
        seconds=1.0,
    )
    return replace(record, **changes)


def test_an_engine_with_the_library_must_use_the_plugin(bundle: Bundle) -> None:
    engine(bundle).check_dispatch()
    with pytest.raises(BackendError, match="BilinearUpsample2d by its body, expected its plugin"):
        engine(bundle, plugins="0" * 64).check_dispatch()


def test_engines_are_listed_with_what_is_wrong(
    bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = with_manifest(bundle, folder / "engines")
    place = own.root / "engines" / "tensorrt"
    place.mkdir(parents=True)
    (place / "refine.plan").write_bytes(b"plan")
    (place / "refine.json").write_text(engine(own, layers=inspector("Row FP32")).to_json())
    assert invoke(["inspect", str(own.root)]) == 0
    out = capsys.readouterr().out
    assert "engines/tensorrt/refine.plan  tensorrt 10.13.0, CUDA 13.0  sm_89" in out
    assert "precision fp32 100%" in out
    (place / "refine.json").write_text(engine(own, onnx="1" * 64).to_json())
    assert invoke(["inspect", str(own.root)]) == 1
    assert "was compiled from another ONNX file" in capsys.readouterr().err


def test_the_command_writes_a_table_or_json(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["inspect", str(bundle.root)]) == 0
    table = capsys.readouterr().out
    assert "function body: foveate::BilinearUpsample2d 6" in table
    assert "function body: foveate::RoiMaxPool2d 9" in table
    assert "TensorRT has no" not in table
    assert invoke(["inspect", str(bundle.root), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in content["stages"]] == list(bundle.manifest.stages)
    assert content["stages"][1]["ours"][0]["implementation"] == "body"


def test_a_file_that_is_not_ours_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.microsoft"

    foreign = with_change(bundle, tmp_path / "foreign", "refine", change)
    with pytest.raises(BundleError, match="uses unsupported operator domains: com.microsoft"):
        inspect_bundle(foreign)


def test_a_portable_stage_has_standard_operators_only_and_computes_the_same(bundle: Bundle) -> None:
    model = onnx.load(bundle.stage_path("refine"))
    plain = inline_functions(model)
    assert not plain.functions
    assert {entry.domain for entry in plain.opset_import} == {""}
    assert {node.domain for node in plain.graph.node} == {""}
    rng = np.random.default_rng(0)
    inputs = {
        one.name: rng.standard_normal(
            [dim.dim_value or 3 for dim in one.type.tensor_type.shape.dim], np.float32
        )
        for one in model.graph.input
    }
    found, expected = (
        onnxruntime.InferenceSession(
            one.SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(None, inputs)[0]
        for one in (plain, model)
    )
    assert np.array_equal(found, expected)


def test_an_operator_without_a_body_cannot_be_portable(bundle: Bundle) -> None:
    model = onnx.load(bundle.stage_path("refine"))
    del model.functions[:]
    with pytest.raises(ModelError, match="BilinearUpsample2d has no body of standard operators"):
        inline_functions(model)


def test_layers_of_unknown_shape_are_judged_by_their_number() -> None:
    weights = {"w": np.ones((2, 4, 3, 3), np.float32)}
    model = model_of([helper.make_node("Conv", ["x", "w"], ["y"])], TensorProto.FLOAT, weights)
    (layer,) = found = list(layers(model, {}))
    assert layer.macs is None
    assert shares(found) == {"fp32": Share(nodes=1.0, parameters=1.0, macs=1.0)}
