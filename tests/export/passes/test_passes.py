# SPDX-License-Identifier: Apache-2.0
"""Exact optimization passes: the networks compute the same function with less work."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from tests.samples.compiling import needs_rtx
from tests.samples.weights import assert_same_weights, rounded
from torch import Tensor

from foveate.bundle import Bundle
from foveate.errors import BackendError, ModelError, OptionError
from foveate.export import passes
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.engines import CompileOptions, build_requests
from foveate.export.engines.turing import float32_products
from foveate.export.execution.stages import Stage, cascade_stages
from foveate.export.passes import PASSES, Saving, Work, run_passes, truncate_towers
from foveate.export.precision.float16 import to_float16
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle, exact_cascade_from_bundle
from foveate.models.checkpoint import Cascade, CascadeInfo, build_cascade
from foveate.models.sharpmask import SharpMask, deepmask_of

CLASSES = ("cat", "cup")
MINI = CascadeInfo(proposals="sharpmask-mini", classifier="multipathnet-mini", class_names=CLASSES)
NARROW = {"width": 8, "neck": 16, "vector": 32, "score_hidden": 16}
TOWERS = {"width": 8, "mixed": 64, "hidden": 64}  # conv5 has as many channels as are mixed
RELEASED = CascadeInfo(
    proposals="sharpmask-resnet50",
    proposals_sizes=NARROW,
    classifier="multipathnet-vgg16",
    classifier_sizes=TOWERS,
    class_names=CLASSES,
)
PAPER = CascadeInfo(
    proposals="sharpmask-resnet50",
    proposals_sizes={**NARROW, "form": "paper"},
    classifier="multipathnet-vgg16",
    classifier_sizes={**TOWERS, "normalised": False},
    class_names=CLASSES,
)
# A trunk of EfficientNet takes half of the time that the one of ResNet-50 takes to export.
EXPORTED = replace(RELEASED, proposals="sharpmask-mini", proposals_sizes={})
CASCADES = {"mini": MINI, "released": RELEASED, "paper": PAPER}


def late_stages(cascade: Cascade) -> list[Stage]:
    """Return the two stages that passes change."""
    stages = cascade_stages(cascade, long_side=256)
    return [stage for stage in stages if stage.name in ("refine", "classify")]


def results(stages: list[Stage]) -> list[Tensor]:
    """Return masks of three windows, and probabilities and deltas of three boxes, for fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    found: list[Tensor] = []
    for stage in stages:
        stage.module.double()
        inputs = [
            (one if name == "boxes" else torch.randn(one.shape, generator=generator)).double()
            for name, one in stage.inputs.items()
        ]
        with torch.no_grad():
            outputs = stage.module(*inputs)
        found += outputs if isinstance(outputs, tuple) else [outputs]
    return found


def largest_difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the difference as a share of the largest value."""
    return max(
        float((one - other).abs().max()) / max(1.0, float(one.abs().max()))
        for one, other in zip(before, after, strict=True)
    )


@pytest.mark.parametrize("passes", [*([one] for one in PASSES), list(PASSES)], ids=",".join)
@pytest.mark.parametrize("name", CASCADES)
def test_a_pass_is_exact_in_float64(name: str, passes: list[str]) -> None:
    torch.manual_seed(0)
    cascade = build_cascade(CASCADES[name])
    stages = late_stages(cascade)
    before = results(stages)
    run_passes(cascade, passes)
    assert largest_difference(before, results(stages)) <= 1e-12


def test_passes_are_exact_on_factored_towers_too() -> None:
    torch.manual_seed(0)
    cascade = build_cascade(RELEASED)
    assert cascade.classifier is not None
    truncate_towers(cascade.classifier, (16, 8))
    stages = late_stages(cascade)
    before = results(stages)
    saved = run_passes(cascade, ["fold-conv1x1", "batch-towers"])
    assert [one["layer"] for one in saved] == ["class_towers.3", "joint"]
    assert largest_difference(before, results(stages)) <= 1e-12


PUBLISHED = {
    "mini": (MINI, [("encode", (640_000, 409_600), (411_904, 409_600), (2, 1))]),
    "released": (
        CascadeInfo(
            proposals="sharpmask-resnet50", classifier="multipathnet-vgg16", class_names=CLASSES
        ),
        [
            ("class_towers.3", (115_605_504, 102_760_448), (103_022_592, 102_760_448), (2, 1)),
            ("encode", (2_560_000, 1_638_400), (1_647_616, 1_638_400), (2, 1)),
        ],
    ),
    "paper": (
        CascadeInfo(proposals="sharpmask-resnet50", proposals_sizes={"form": "paper"}),
        [("encode", (2_099_200, 819_200), (1_643_008, 819_200), (2, 1))],
    ),
    "without skips": (
        CascadeInfo(
            proposals="deepmask-resnet50", classifier="fast-rcnn-vgg16", class_names=CLASSES
        ),
        [],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_of_published_size_save_what_was_counted(name: str) -> None:
    info, expected = PUBLISHED[name]
    with torch.device("meta"):
        saved = run_passes(build_cascade(info), ["fold-conv1x1", "fold-encoder"])
    found = [
        (one["layer"], *((one["before"][key], one["after"][key]) for key in one["after"]))
        for one in saved
    ]
    assert found == expected


def test_ten_products_of_five_towers_become_two() -> None:
    with torch.device("meta"):
        (one,) = run_passes(build_cascade(PUBLISHED["released"][0]), ["batch-towers"])
    assert (one["before"]["products"], one["after"]["products"]) == (10, 2)
    assert one["before"]["weights"] == one["after"]["weights"] == 5 * (25_088 + 4096) * 4096


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cascade, Bundle]:
    """Return a cascade, and its bundle after all passes."""
    torch.manual_seed(0)
    cascade = build_cascade(EXPORTED)
    options = ExportOptions(optimize=tuple(PASSES), short_side=192, long_side=256)
    path = tmp_path_factory.mktemp("passes") / "bundle"
    return cascade, export_bundle(cascade, path, options)


@pytest.fixture(scope="module")
def changed(exported: tuple[Cascade, Bundle]) -> tuple[Cascade, Bundle]:
    """Return the cascade after all passes, and its bundle."""
    cascade = rounded(copy.deepcopy(exported[0]))
    run_passes(cascade, list(PASSES))
    return cascade, exported[1]


def test_an_export_leaves_the_networks_as_they_are(exported: tuple[Cascade, Bundle]) -> None:
    torch.manual_seed(0)
    assert_same_weights(build_cascade(EXPORTED), exported[0])


def test_the_towers_of_a_bundle_are_one_product_a_layer(changed: tuple[Cascade, Bundle]) -> None:
    model = onnx.load(changed[1].stage_path("classify"))
    weights = {one.name.removesuffix("_half"): one for one in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert [list(weights[node.input[1]].dims) for node in products] == [[5, 3136, 64], [5, 64, 64]]
    mixing = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(mixing) == 4


@needs_rtx
@pytest.mark.parametrize("archs", [("sm_75",), ("sm_89", "sm_75")])
def test_batched_towers_are_refused_for_sm_75_before_anything_is_built(
    archs: tuple[str, ...], changed: tuple[Cascade, Bundle]
) -> None:
    bundle = changed[1]
    options = CompileOptions(target="tensorrt-rtx", archs=archs)
    with pytest.raises(BackendError) as caught:
        build_requests(bundle, options)
    assert str(caught.value) == (
        "the stage 'classify' cannot be built for sm_75: tensorrt-rtx has no product of float32 "
        "matrices there, expected linear layers or float16, found 'node_matmul' and 1 more: "
        f"{bundle.stage_path('classify')}: omit sm_75, or export with --precision fp16, or "
        "without --optimize batch-towers"
    )
    assert len(build_requests(bundle, replace(options, archs=("sm_89",)))) == 4
    assert len(build_requests(bundle, replace(options, stages=("features",)))) == 1


def test_batched_towers_in_float16_are_not_refused(changed: tuple[Cascade, Bundle]) -> None:
    half = to_float16(onnx.load(changed[1].stage_path("classify")))
    assert [node.op_type for node in half.graph.node].count("MatMul") == 2
    assert float32_products(half) == []


def test_a_changed_bundle_gives_its_networks_back(changed: tuple[Cascade, Bundle]) -> None:
    cascade, bundle = changed
    assert_same_weights(cascade, cascade_from_bundle(bundle))


def test_trained_weights_cannot_be_had_from_a_changed_bundle(
    changed: tuple[Cascade, Bundle],
) -> None:
    text = "was exported with --optimize fold-conv1x1,fold-encoder,batch-towers.*a bundle without --optimize"
    with pytest.raises(ModelError, match=text):
        exact_cascade_from_bundle(changed[1])


def test_the_manifest_says_what_was_saved(changed: tuple[Cascade, Bundle]) -> None:
    manifest = changed[1].manifest
    assert manifest.source.optimize == ("fold-conv1x1", "fold-encoder", "batch-towers")
    assert [(one["pass"], one["layer"]) for one in manifest.provenance["saved"]] == [
        ("fold-conv1x1", "class_towers.3"),
        ("fold-encoder", "encode"),
        ("batch-towers", "joint"),
    ]


def _wrong(cascade: Cascade) -> Iterator[Saving]:
    deepmask_of(cascade.proposals).mask.bias.data += 0.5
    yield from ()


def test_a_pass_that_changes_the_function_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "PASSES", {"wrong": _wrong})
    cascade = build_cascade(CascadeInfo(proposals="deepmask-mini"))
    with pytest.raises(ModelError, match="'refine' differs from PyTorch: its output 'logits'"):
        export_bundle(cascade, tmp_path / "bundle", ExportOptions(optimize=("wrong",)))
    assert not (tmp_path / "bundle").exists()


def test_a_pass_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        OptionError, match="there is no pass 'fold': use some of fold-conv1x1, fold-encoder"
    ):
        ExportOptions(optimize=("fold",))


def test_passes_that_ran_before_find_nothing_more_to_do() -> None:
    torch.manual_seed(0)
    cascade = build_cascade(RELEASED)
    stages = late_stages(cascade)
    before = results(stages)
    assert len(run_passes(cascade, list(PASSES))) == 3
    assert run_passes(cascade, list(PASSES)) == []
    assert largest_difference(before, results(stages)) <= 1e-12


def test_passes_run_in_one_order_whatever_that_of_their_names() -> None:
    with torch.device("meta"):
        saved = run_passes(build_cascade(RELEASED), list(PASSES)[::-1])
    assert [one["pass"] for one in saved] == list(PASSES)


def test_towers_of_different_shapes_stay_apart() -> None:
    torch.manual_seed(0)
    # Towers that read few channels are folded, and their linear layers are smaller then.
    cascade = build_cascade(replace(RELEASED, classifier_sizes={**TOWERS, "mixed": 128}))
    stages = late_stages(cascade)
    before = results(stages)
    saved = run_passes(cascade, ["fold-conv1x1", "batch-towers"])
    assert {one["pass"] for one in saved} == {"fold-conv1x1"}
    assert largest_difference(before, results(stages)) <= 1e-12


@pytest.mark.parametrize("name", ["fast-rcnn-vgg16", "multipathnet-resnet18"])
def test_a_single_tower_and_towers_of_convolutions_are_not_batched(name: str) -> None:
    info = CascadeInfo(proposals="deepmask-mini", classifier=name, class_names=CLASSES)
    with torch.device("meta"):
        assert run_passes(build_cascade(info), ["batch-towers"]) == []


def test_batched_towers_have_as_many_weights_as_before() -> None:
    with torch.device("meta"):
        cascade = build_cascade(RELEASED)
    network = cascade.classifier
    assert network is not None
    before = sum(one.numel() for one in network.parameters())
    with torch.device("meta"):
        run_passes(cascade, ["batch-towers"])
    assert sum(one.numel() for one in network.parameters()) == before
    assert network.joint is not None
    assert not any(one.training for one in network.joint.modules())


def test_a_convolution_that_widens_the_encoding_is_not_folded_into_the_encoder() -> None:
    with torch.device("meta"):
        cascade = build_cascade(PAPER)
        assert isinstance(cascade.proposals, SharpMask)
        channels = cascade.proposals.encode.out_features // cascade.proposals.cells**2
        wide = torch.nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        cascade.proposals.coarse_to_fine[0].vertical = wide
        assert run_passes(cascade, ["fold-encoder"]) == []


def test_work_is_saved_only_where_something_is_less_and_nothing_more() -> None:
    before = Work(multiplications=10, weights=8, products=2)
    assert not before.saves(before)
    assert replace(before, products=1).saves(before)
    assert not replace(before, products=1, weights=9).saves(before)


def test_passes_that_cannot_run_leave_the_cascade_as_it_is() -> None:
    with torch.device("meta"):
        cascade = build_cascade(RELEASED)
    for names, text in (
        (["batch-towers", "fold"], "there is no pass 'fold'"),
        (["batch-towers", "batch-towers"], "the pass 'batch-towers' is given twice: omit it once"),
    ):
        with pytest.raises(OptionError, match=text):
            run_passes(cascade, names)
    assert cascade.classifier is not None
    assert cascade.classifier.joint is None
