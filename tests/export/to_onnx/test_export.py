# SPDX-License-Identifier: Apache-2.0
"""Export of bundles: every stage computes the same in ONNX Runtime as in PyTorch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.samples.stages import inputs_of_level, random_inputs
from tests.samples.weights import assert_same_weights, rounded

from foveate.bundle import (
    Bundle,
    ClassifySpec,
    FeaturesSpec,
    MaskSpec,
    NetworkSpec,
    PreprocessingSpec,
    PyramidSpec,
    SelectSpec,
    SourceSpec,
    WindowSpec,
)
from foveate.errors import ModelError
from foveate.export.bundle_export import ExportOptions, _pooled_side, export_bundle, weights_digest
from foveate.export.execution.stage_model import inline_functions
from foveate.export.execution.stages import Stage, cascade_stages
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.export.to_onnx.onnx_graph import TOLERANCE, check_stage, export_stage, stage_errors
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    build_cascade,
    load_checkpoint,
    save_checkpoint,
)
from foveate.runtime.sizes import Sizes

CLASSES = ("cat", "cup", "rocket")
# No number is a default, or equal to another one that it could be taken for.
INFO = CascadeInfo(
    proposals="sharpmask-mini",
    classifier="multipathnet-mini",
    class_names=CLASSES,
    delta_mean=(0.01, -0.02, 0.03, -0.04),
    delta_std=(0.11, 0.12, 0.23, 0.24),
    calibration=(-0.5, 0.75, 0.25),
    mask_threshold=-0.625,
    mask_scoring=True,
    top_k=33,
    window_nms_iou=0.55,
    proposal_nms_iou=0.45,
    class_nms_iou=0.35,
    training={"epochs": 3},
)
# The smallest level is longer than what the classifier asks for.
OPTIONS = ExportOptions(
    name="uneven",
    scales=(0.9, 1.8),
    max_side=1111,
    top_k=33,
    short_side=128,
    long_side=257,
    max_detections=44,
    accuracy={"AP": 12.5},
)


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    torch.manual_seed(0)
    return rounded(build_cascade(INFO))


@pytest.fixture(scope="module")
def bundle(cascade: Cascade, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(cascade, tmp_path_factory.mktemp("export") / "bundle", OPTIONS)


@pytest.mark.parametrize(("height", "width", "rows"), [(320, 448, 7), (192, 160, 1), (224, 256, 0)])
def test_every_stage_agrees_with_pytorch_at_other_sizes(
    cascade: Cascade, bundle: Bundle, height: int, width: int, rows: int
) -> None:
    for stage in cascade_stages(cascade):
        inputs = random_inputs(stage, height, width, rows)
        errors = stage_errors(stage, bundle.stage_path(stage.name), inputs)
        assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("level", [(750, 1000), (1000, 750)])
def test_a_box_of_the_smallest_level_is_classified_as_in_pytorch(
    cascade: Cascade, bundle: Bundle, level: tuple[int, int]
) -> None:
    """The level is longer than what the classifier asks for, and still no bin is too long."""
    height, width = (round(side / 0.9) for side in level)
    seen = Sizes.of(height, width, bundle.manifest).features
    assert seen is not None
    assert (seen.height, seen.width) == level
    (stage,) = (one for one in cascade_stages(cascade) if one.name == "classify")
    inputs = inputs_of_level(stage, *level, border=bundle.manifest.windows.padding)
    errors = stage_errors(stage, bundle.stage_path("classify"), inputs)
    assert max(errors.values()) <= TOLERANCE, errors


def test_boxes_may_be_as_long_as_the_classifier_asks_for(cascade: Cascade) -> None:
    assert _pooled_side(cascade, replace(OPTIONS, scales=(0.3, 0.6), long_side=1001)) == 1001


def test_a_bundle_whose_weights_do_not_fit_its_networks_is_refused(bundle: Bundle) -> None:
    manifest = replace(bundle.manifest, class_names=(*CLASSES, "one more"))
    expected = (
        rf"expected {4 * len(CLASSES) + 8} values of the parameter 'box_head.bias', as MultiPathNet "
        rf"has, found {4 * len(CLASSES) + 4}: .*: use the version of Foveate that exported the bundle"
    )
    with pytest.raises(ModelError, match=expected):
        cascade_from_bundle(replace(bundle, manifest=manifest))


def test_the_bundle_has_a_model_card(bundle: Bundle) -> None:
    assert "\n# uneven\n" in (bundle.root / "README.md").read_text("utf-8")


def test_numbers_that_no_manifest_may_have_are_refused(cascade: Cascade, tmp_path: Path) -> None:
    info = replace(cascade.info, window_nms_iou=1.5)
    message = (
        r"cannot be described in a bundle \(window_nms_iou must lie in .*\): correct the options"
    )
    with pytest.raises(ModelError, match=message):
        export_bundle(replace(cascade, info=info), tmp_path / "bundle", OPTIONS)


def test_a_stage_that_differs_is_refused(cascade: Cascade, bundle: Bundle) -> None:
    stage = cascade_stages(cascade)[1]
    model = onnx.load(bundle.stage_path(stage.name))
    (bias,) = [t for t in model.graph.initializer if t.name.endswith("mask.bias")]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0.5], np.float32), bias.name))
    with pytest.raises(ModelError, match="'refine' differs from PyTorch: its output 'logits'"):
        check_stage(stage, model)


def test_stages_are_opset_18_with_our_operator_and_its_body(bundle: Bundle) -> None:
    model = onnx.load(bundle.stage_path("refine"))
    versions = {entry.domain: entry.version for entry in model.opset_import}
    assert versions == {"": 18, "foveate": 1}
    nodes = [node for node in model.graph.node if node.domain == "foveate"]
    assert [node.op_type for node in nodes] == ["BilinearUpsample2d"] * 6
    attributes = {attribute.name for attribute in nodes[0].attribute}
    assert {"plugin_namespace", "plugin_version"} <= attributes
    assert [function.name for function in model.functions] == ["BilinearUpsample2d"]


def test_regions_are_pooled_by_our_operator_and_its_body(bundle: Bundle) -> None:
    model = onnx.load(bundle.stage_path("classify"))
    nodes = [node for node in model.graph.node if node.domain == "foveate"]
    # The towers pool 3, 2, 2, 1 and 3 maps; two of them share a region, hence two poolings.
    assert [node.op_type for node in nodes] == ["RoiMaxPool2d"] * 9
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in nodes[0].attribute}
    assert attributes["pooled_shape"] == [7, 7]
    assert attributes["rounding"] == 0
    assert (attributes["plugin_namespace"], attributes["plugin_version"]) == (b"foveate", b"1")
    assert {function.name for function in model.functions} == {"RoiMaxPool2d"}
    # Maps of stride 8, 16 and 32 have a body each, of as many levels as their sides need.
    assert {function.overload for function in model.functions} == {
        f"caffe_7x7_side_{side}_radix_2_parts_1" for side in (22, 44, 88)
    }
    assert {node.overload for node in nodes} == {f.overload for f in model.functions}
    operators = {node.op_type for node in [*model.graph.node, *model.functions[0].node]}
    assert not operators & {"MaxRoiPool", "Loop", "If", "Scan"}
    assert [plugin.name for plugin in bundle.manifest.plugins] == [
        "BilinearUpsample2d",
        "RoiMaxPool2d",
    ]


def test_files_hold_no_trace_of_the_machine(bundle: Bundle) -> None:
    for stage in bundle.manifest.stages:
        content = bundle.stage_path(stage).read_bytes()
        assert b".py" not in content
        assert str(Path(__file__).parents[3]).encode() not in content


def test_weights_are_stored_in_half_of_their_size(bundle: Bundle, cascade: Cascade) -> None:
    for stage in bundle.manifest.stages:
        model = onnx.load(bundle.stage_path(stage))
        weights = [t for t in model.graph.initializer if t.name.startswith("network.")]
        large = [t for t in weights if np.prod(t.dims) >= 64]
        assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}


def test_the_manifest_names_dimensions_as_the_stages_do(bundle: Bundle) -> None:
    assert list(bundle.manifest.stages) == ["propose", "refine", "features", "classify"]
    (image,) = bundle.manifest.stages["propose"].inputs
    assert (image.name, image.dtype, image.shape) == ("image", "float32", (1, 3, "height", "width"))
    assert bundle.manifest.stages["classify"].outputs[0].shape == ("boxes", len(CLASSES) + 1)


def test_the_manifest_says_what_the_cascade_was_trained_for(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.class_names == CLASSES
    assert manifest.mask == MaskSpec(size=160, threshold=-0.625)
    assert manifest.classify == ClassifySpec(
        delta_mean=(0.01, -0.02, 0.03, -0.04),
        delta_std=(0.11, 0.12, 0.23, 0.24),
        class_nms_iou=0.35,
        max_detections=44,
        calibration=(-0.5, 0.75, 0.25),
    )


def test_the_manifest_says_what_the_networks_expect(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.preprocessing == PreprocessingSpec(mean=(127,) * 3, std=(128,) * 3, fill=127)
    assert manifest.windows == WindowSpec(size=160, stride=16, padding=80)
    assert manifest.features == FeaturesSpec(short_side=128, long_side=257)


def test_the_manifest_says_what_was_asked_of_the_export(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.name == "uneven"
    assert manifest.pyramid == PyramidSpec(scales=(0.9, 1.8), max_side=1111)
    assert manifest.select == SelectSpec(top_k=33, window_nms_iou=0.55, proposal_nms_iou=0.45)
    assert replace(ExportOptions.of_manifest(manifest), accuracy=OPTIONS.accuracy) == OPTIONS


def test_the_manifest_says_where_the_bundle_comes_from(bundle: Bundle, cascade: Cascade) -> None:
    names = ("sharpmask-mini", "multipathnet-mini")
    assert bundle.manifest.source == SourceSpec(networks=tuple(NetworkSpec(name=n) for n in names))
    found = bundle.manifest.provenance
    assert found["saved"] == []
    assert found["training"] == {"epochs": 3}
    assert found["accuracy"] == {"AP": 12.5}
    assert found["weights_sha256"] == weights_digest(cascade)
    assert found["tools"]["torch"] == torch.__version__
    assert set(found["tools"]) == {"python", "torch", "onnx", "onnxscript"}


def test_a_digest_of_weights_changes_with_every_one_that_the_bundle_holds() -> None:
    torch.manual_seed(0)
    cascade = build_cascade(INFO)
    assert cascade.classifier is not None
    before = weights_digest(cascade)
    for network in (cascade.proposals, cascade.classifier):
        name, parameter = list(network.named_parameters())[-1]
        with torch.no_grad():
            parameter.view(-1)[-1] += 1
        assert weights_digest(cascade) != before, name
        before = weights_digest(cascade)
    with torch.no_grad():
        cascade.proposals.get_parameter("deepmask.mask.bias").add_(1)  # SharpMask's replaces it
    assert weights_digest(cascade) == before


def test_a_bundle_gives_its_networks_back(bundle: Bundle, cascade: Cascade) -> None:
    again = cascade_from_bundle(bundle)
    assert again.info == INFO
    assert_same_weights(cascade, again)


BARE = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
inputs = numpy.load(sys.argv[2])
names = [one.name for one in session.get_outputs()]
found = session.run(names, {name: inputs[name] for name in inputs.files})
numpy.savez(sys.argv[3], **dict(zip(names, found)))
assert not [name for name in sys.modules if name.partition(".")[0] in ("foveate", "onnx", "torch")]
"""


def test_a_process_without_our_code_runs_portable_stages(
    cascade: Cascade, bundle: Bundle, tmp_path: Path
) -> None:
    for stage in cascade_stages(cascade):
        plain, saved, found = (tmp_path / f"{stage.name}{end}" for end in (".onnx", "", ".npz"))
        onnx.save(inline_functions(onnx.load(bundle.stage_path(stage.name))), plain)
        inputs = {name: one.numpy() for name, one in random_inputs(stage, 192, 224, 5).items()}
        np.savez(saved.with_suffix(".in.npz"), **inputs)  # type: ignore[arg-type]  # no array is called allow_pickle
        words = [str(plain), str(saved.with_suffix(".in.npz")), str(found)]
        subprocess.run([sys.executable, "-P", "-c", BARE, *words], check=True, cwd=tmp_path, env={})
        own = onnxruntime.InferenceSession(bundle.stage_path(stage.name)).run(None, inputs)
        arrays = np.load(found)
        for name, expected in zip(stage.outputs, own, strict=True):
            np.testing.assert_allclose(arrays[name], expected, rtol=0, atol=1e-5)


def test_a_checkpoint_gives_its_networks_back(cascade: Cascade, tmp_path: Path) -> None:
    path = tmp_path / "cascade.safetensors"
    save_checkpoint(path, cascade)
    again = load_checkpoint(path)
    assert again.info == cascade.info
    for name, value in cascade.proposals.state_dict().items():
        assert torch.equal(value, again.proposals.state_dict()[name])


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ModelError, match="the checkpoint cannot be read.*weights.safetensors"):
        load_checkpoint(path)
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all!")
    with pytest.raises(ModelError, match="the checkpoint cannot be read.*foveate train"):
        load_checkpoint(path)


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


def test_a_stage_that_cannot_be_traced_is_refused_and_not_traced_otherwise() -> None:
    stage = Stage(
        name="branching",
        module=Branching(),
        inputs={"x": torch.ones(2)},
        dynamic={},
        outputs=("y",),
    )
    with pytest.raises(ModelError, match="the stage 'branching' cannot be exported"):
        export_stage(stage)
