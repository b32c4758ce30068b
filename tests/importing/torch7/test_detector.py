# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN out of Torch7 files, against a run of the tree in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.samples.torch7 import detectors as trees
from tests.samples.torch7.forward import run
from tests.samples.torch7.models import Maker, every_module, node, relu, sealed, sequential
from tests.samples.torch7.writer import T7Object, write_torch7

from foveate.errors import ModelError
from foveate.importing import ImportedWeights, import_torch7
from foveate.models import MultiPathNet

BOXES = torch.tensor([[3.0, 5.0, 40.0, 60.0], [0.0, 0.0, 63.0, 47.0], [20.5, 8.25, 33.0, 21.0]])


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 64, 64)).astype("f4"))


def import_tree(tmp_path: Path, model: Any, kind: str = "Float") -> ImportedWeights:
    return import_torch7(write_torch7(tmp_path / "model.t7", sealed(model, {}, kind)))


def network_of(found: ImportedWeights) -> MultiPathNet:
    network = found.build()
    assert isinstance(network, MultiPathNet)
    return network


def assert_runs_as(network: MultiPathNet, tree: T7Object, image: torch.Tensor) -> None:
    """Compare with the tree up to its heads, whose boxes count from 1, after the index of the image."""
    rois = torch.cat([torch.ones(len(BOXES), 1), BOXES + 1], 1)
    classes, deltas = run(trees.without_mode_switch(tree), [image, rois])
    features = network.features(image)
    logits, found_deltas = network.logits(network.pool(features, BOXES))
    classes = classes if isinstance(classes, list) else [classes]
    for found, expected in [*zip(logits, classes, strict=True), (found_deltas.flatten(1), deltas)]:
        assert not torch.equal(expected[0], expected[1]), "the boxes make no difference"
        assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("form", ["branches", "addition"])
@pytest.mark.parametrize("wrapper", ["Sequential", "DataParallelTable", "NoBackprop-1"])
@torch.inference_mode()
def test_the_original_detector_computes_what_its_tree_computes(
    tmp_path: Path, form: Any, wrapper: str, image: torch.Tensor
) -> None:
    tree = trees.multipathnet_resnet(Maker(form=form, symmetric=False), wrapper=wrapper)
    found = import_tree(tmp_path, tree)
    assert found.name == "multipathnet-resnet18"
    expected = {"affine_after_addition": form == "addition", "rounding": "v2", "classes": 4}
    assert expected.items() <= found.sizes.items()
    assert found.notes == []
    assert_runs_as(network_of(found), tree, image)


@torch.inference_mode()
def test_a_detector_on_resnet50_is_recognized_by_its_blocks(
    tmp_path: Path, image: torch.Tensor
) -> None:
    tree = trees.multipathnet_resnet(Maker(symmetric=False), depths=(3, 4, 6, 3), basic=False)
    found = import_tree(tmp_path, tree)
    assert found.name == "multipathnet-resnet50"
    assert_runs_as(network_of(found), tree, image)


@pytest.mark.parametrize(("box_tower", "normalized"), [(True, True), (False, True), (True, False)])
@torch.inference_mode()
def test_the_detector_of_four_regions_computes_what_its_tree_computes(
    tmp_path: Path, box_tower: bool, normalized: bool, image: torch.Tensor
) -> None:
    make = Maker(symmetric=False)
    tree = trees.multipathnet_vgg(make, box_tower=box_tower, normalized=normalized)
    found = import_tree(tmp_path, tree, "Cuda")
    assert found.name == "multipathnet-vgg16"
    assert (found.sizes["box_tower"], found.sizes["normalised"]) == (box_tower, normalized)
    network = network_of(found)
    assert (network.box_tower is not None) == box_tower
    assert_runs_as(network, tree, image)


def test_a_detector_of_other_regions_is_refused(tmp_path: Path) -> None:
    tree = trees.multipathnet_vgg(Maker(symmetric=False), box_tower=False)
    tree.fields["modules"][2].fields["modules"].pop()
    with pytest.raises(ModelError, match=r"expected 4 or 5 towers, .*, found \[3\]"):
        import_tree(tmp_path, tree)


@pytest.mark.parametrize("v2", [True, None])
@torch.inference_mode()
def test_fast_rcnn_computes_what_its_tree_computes(
    tmp_path: Path, v2: bool | None, image: torch.Tensor
) -> None:
    tree = trees.fast_rcnn_vgg(Maker(symmetric=False), v2=v2)
    found = import_tree(tmp_path, {"model": tree, "unpack": False})
    assert found.name == "fast-rcnn-vgg16"
    assert found.sizes["rounding"] == ("v2" if v2 else "caffe")
    assert_runs_as(network_of(found), tree, image)


def test_the_normalization_of_boxes_is_kept(tmp_path: Path) -> None:
    found = import_tree(tmp_path, trees.multipathnet_resnet(Maker(symmetric=False)))
    assert found.delta_mean == pytest.approx((0.0, 0.01, 0.02, 0.03))
    assert found.delta_std == pytest.approx((0.1, 0.1, 0.2, 0.2))
    without = import_tree(tmp_path, trees.fast_rcnn_vgg(Maker(symmetric=False)))
    assert (without.delta_mean, without.delta_std) == ((0.0,) * 4, (1.0,) * 4)


def drop_the_pooling(tree: T7Object) -> None:
    tree.fields["modules"].pop(1)


def pool_to_seven(tree: T7Object) -> None:
    tree.fields["modules"][1].fields["W"] = 7


def hide_a_layer(tree: T7Object) -> None:
    tree.fields["modules"][4].fields["modules"].append(Maker().linear(2, 2))


def drop_the_boxes(tree: T7Object) -> None:
    tree.fields["modules"][3].fields["modules"].pop()


def drop_a_block(tree: T7Object) -> None:
    region = tree.fields["modules"][2].fields["modules"][0]
    region.fields["modules"][0].fields["modules"].pop()


def add_a_layer(tree: T7Object) -> None:
    tree.fields["modules"].insert(3, sequential(Maker().linear(2, 2), relu()))


def norm_five_numbers(tree: T7Object) -> None:
    tree.fields["modules"][-1].fields["modules"][1].fields["mean"] = np.zeros((1, 5), np.float32)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (drop_the_pooling, "expected ROI pooling of one kind to 14x14, found none"),
        (pool_to_seven, r"expected ROI pooling of one kind to 14x14, found \[\(7, 14, 'v2'\)\]"),
        (hide_a_layer, r"known class at model.modules\[5\], found a nn.ModeSwitch with weights"),
        (drop_the_boxes, r"expected class heads and a box head in .*, found \['fork'\]"),
        (drop_a_block, r"expected the blocks of ResNet-18 .*, found \[2, 2, 2, 1\] of \[2\]"),
        (add_a_layer, "expected nothing after the blocks, found 'linear relu'"),
        (norm_five_numbers, "expected 4 means and 4 deviations in .*, found 5 and 4"),
    ],
)
def test_another_detector_is_refused_by_what_differs(
    tmp_path: Path, spoil: Callable[[T7Object], None], expected: str
) -> None:
    tree = trees.multipathnet_resnet(Maker(symmetric=False))
    spoil(tree)
    with pytest.raises(ModelError, match=f"{expected}.*model.t7: import a .*MultiPathNet"):
        import_tree(tmp_path, tree)


def layers_of_maps(tree: T7Object) -> list[list[T7Object]]:
    """Return the layers of each map of each tower."""
    return [
        pooled.fields["modules"]
        for tower in tree.fields["modules"][2].fields["modules"]
        for pooled in tower.fields["modules"][1].fields["modules"][0].fields["modules"]
    ]


def test_towers_without_normalization_are_refused(tmp_path: Path) -> None:
    tree = trees.multipathnet_vgg(Maker(symmetric=False))
    for layers in layers_of_maps(tree):
        layers[:] = [layer for layer in layers if layer.name != "nn.Normalize"]
    with pytest.raises(
        ModelError, match=r"class_towers.0 3 normalized maps .*, found 0 .* \[1000\]"
    ):
        import_tree(tmp_path, tree)


@pytest.mark.parametrize("factor", [0.5, 0.0335])
def test_towers_with_other_factors_are_refused(tmp_path: Path, factor: float) -> None:
    tree = trees.multipathnet_vgg(Maker(symmetric=False), normalized=False)
    layers_of_maps(tree)[1][-1].fields["constant_scalar"] = factor
    with pytest.raises(ModelError, match=rf"1/30 and 1/200, found 0 .* \[1, {factor}, 0\.005\]"):
        import_tree(tmp_path, tree)


def test_towers_of_both_forms_are_refused(tmp_path: Path) -> None:
    tree = trees.multipathnet_vgg(Maker(symmetric=False))
    divided = trees.multipathnet_vgg(Maker(symmetric=False), normalized=False)
    tree.fields["modules"][2].fields["modules"][1] = divided.fields["modules"][2].fields["modules"][
        1
    ]
    with pytest.raises(ModelError, match="normalized in all towers or in none, found both"):
        import_tree(tmp_path, tree)


def test_towers_without_mixing_are_refused(tmp_path: Path) -> None:
    tree = trees.multipathnet_vgg(Maker(symmetric=False))
    tree.fields["modules"][2].fields["modules"][0].fields["modules"].pop(2)
    with pytest.raises(ModelError, match="expected the layers 'conv linear relu linear relu'"):
        import_tree(tmp_path, tree)


def test_a_network_for_imagenet_is_not_a_detector(tmp_path: Path) -> None:
    make = Maker(symmetric=False)
    tree = sequential(
        *make.resnet(2, (2, 2, 2, 2), basic=True), node("nn.View"), make.linear(16, 9)
    )
    with pytest.raises(ModelError, match="expected a detector: .*, found 'conv affine relu pool"):
        import_tree(tmp_path, tree)


def features_of(tree: T7Object, name: str) -> list[T7Object]:
    return [one for one in every_module(tree.fields["modules"][0]) if one.name.endswith(name)]


def test_vgg_with_other_pooling_is_refused(tmp_path: Path) -> None:
    tree = trees.fast_rcnn_vgg(Maker(symmetric=False))
    features_of(tree, "MaxPooling")[0].fields["kW"] = 3
    with pytest.raises(ModelError, match="a pooling of side 2, stride 2 and padding 0 .*found 3"):
        import_tree(tmp_path, tree)


def test_vgg_of_another_depth_is_refused(tmp_path: Path) -> None:
    tree = trees.fast_rcnn_vgg(Maker(symmetric=False))
    convolution = features_of(tree, "Convolution")[4]
    convolution.name, convolution.fields = "nn.Identity", {}
    with pytest.raises(ModelError, match="expected the 13 convolutions of VGG-16, found 12"):
        import_tree(tmp_path, tree)
