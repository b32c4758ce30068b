# SPDX-License-Identifier: Apache-2.0
"""DeepMask and SharpMask out of Torch7 files, against a run of the tree in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.samples.torch7 import models as trees
from tests.samples.torch7.compare import assert_equals_torchfile
from tests.samples.torch7.forward import run
from tests.samples.torch7.models import Maker, every_module, node, saved, score_layer
from tests.samples.torch7.writer import T7Object, write_torch7

from foveate.importing import ImportedWeights, import_torch7
from foveate.models import DeepMask, SharpMask

FORMS = [
    Maker(form=form, affine=affine)
    for form in ("branches", "addition")
    for affine in ("inn.ConstAffine", "nn.SpatialConstDiagonal")
]


@pytest.fixture
def patches() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 192, 192)).astype("f4"))


def import_tree(tmp_path: Path, model: T7Object, **options: Any) -> ImportedWeights:
    return import_torch7(write_torch7(tmp_path / "model.t7", saved(model), **options))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare within 1e-5 of the largest value: sums are taken in another order."""
    assert found.shape == expected.shape
    assert len(expected) == 1 or not torch.equal(expected[0], expected[1]), "all zero or a bias"
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("make", FORMS, ids=lambda m: f"{m.form}-{m.affine}")
@torch.inference_mode()
def test_deepmask_computes_what_its_tree_computes(
    tmp_path: Path, make: Maker, patches: torch.Tensor
) -> None:
    tree = trees.deepmask(make)
    found = import_tree(tmp_path, tree)
    assert found.name == "deepmask-resnet50"
    assert found.sizes["affine_after_addition"] is (make.form == "addition")
    assert found.notes == []
    network = found.build()
    assert isinstance(network, DeepMask)
    vectors = run(tree.fields["trunk"], patches)
    masks = run(tree.fields["maskBranch"], vectors)
    assert_close(network.patch_masks(patches), masks.reshape(2, 112, 112))
    # Torch keeps 1e-6 where a hidden unit is off; its weights sum to little.
    scores = run(tree.fields["scoreBranch"], vectors)
    torch.testing.assert_close(network.patch_scores(patches), scores[:, 0], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_deepmask_on_vgg_computes_what_its_tree_computes(tmp_path: Path) -> None:
    tree = trees.deepmask_vgg(Maker(symmetric=False))
    found = import_tree(tmp_path, tree)
    assert found.notes == []
    network = found.build()
    assert isinstance(network, DeepMask)
    patch = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype("f4"))
    taps: dict[int, torch.Tensor] = {}
    vectors = run(tree.fields["trunk"], patch, taps)
    assert_close(
        network.patch_masks(patch)[0], run(tree.fields["maskBranch"], vectors).reshape(224, 224)
    )
    last_relu = 8 * 2 + 4
    assert_close(network.patch_scores(patch), run(tree.fields["scoreBranch"], taps[last_relu])[0])


@pytest.mark.parametrize("make", FORMS[:2], ids=lambda m: m.affine)
@torch.inference_mode()
def test_sharpmask_computes_what_its_tree_computes(
    tmp_path: Path, make: Maker, patches: torch.Tensor
) -> None:
    tree = trees.sharpmask(make)
    found = import_tree(tmp_path, tree)
    assert found.name == "sharpmask-resnet50"
    network = found.build()
    assert isinstance(network, SharpMask)
    taps: dict[int, torch.Tensor] = {}
    encoding = run(tree.fields["trunk"], patches, taps)
    for level, module in tree.fields["refs"].items():
        skip = tree.fields["skpos"][level - 1]
        encoding = run(module, [taps[skip], encoding] if level else encoding)
    assert_close(network.patch_masks(patches), encoding.reshape(2, 160, 160))


def test_the_file_is_one_that_torchfile_reads(tmp_path: Path) -> None:
    tree = saved(trees.sharpmask(Maker(affine="nn.SpatialConstDiagonal")))
    assert_equals_torchfile(write_torch7(tmp_path / "model.t7", tree))


@torch.inference_mode()
def test_mixed_forms_become_the_one_that_can_represent_both(
    tmp_path: Path, patches: torch.Tensor
) -> None:
    make = Maker()
    tree = trees.deepmask(make)
    first_stage = tree.fields["trunk"].fields["modules"][4]
    for block in first_stage.fields["modules"][:2]:
        block.fields["modules"].insert(2, make.norm(8))
    found = import_tree(tmp_path, tree)
    assert found.sizes["affine_after_addition"] is True
    network = found.build()
    assert isinstance(network, DeepMask)
    taps: dict[int, torch.Tensor] = {}
    run(tree.fields["trunk"], patches, taps)
    assert_close(network.trunk(patches)[16], taps[7])


@pytest.mark.parametrize("form", ["branches", "addition"])
@torch.inference_mode()
def test_biases_of_convolutions_join_the_shift_after_them(
    tmp_path: Path, form: Any, patches: torch.Tensor
) -> None:
    make = Maker(form=form)
    tree = trees.deepmask(make)
    for module in every_module(tree.fields["trunk"].fields["modules"][:7]):
        if module.name.endswith("Convolution"):
            module.fields["bias"] = make.array(len(module.fields["weight"]))
    network = import_tree(tmp_path, tree).build()
    assert isinstance(network, DeepMask)
    taps: dict[int, torch.Tensor] = {}
    run(tree.fields["trunk"], patches, taps)
    assert_close(network.trunk(patches)[16], taps[7])


@torch.inference_mode()
def test_batch_norm_that_was_not_frozen_is_folded(tmp_path: Path, patches: torch.Tensor) -> None:
    make = Maker()
    tree = trees.deepmask(make)
    norm = tree.fields["trunk"].fields["modules"][1]
    norm.name = "cudnn.SpatialBatchNormalization"
    norm.fields = {
        "running_mean": make.array(2),
        "running_var": make.array(2) ** 2,
        "weight": make.array(2),
        "bias": make.array(2),
        "eps": 1e-3,
    }
    network = import_tree(tmp_path, tree).build()
    assert isinstance(network, DeepMask)
    taps: dict[int, torch.Tensor] = {}
    run(tree.fields["trunk"], patches, taps)
    assert_close(network.trunk(patches)[2], taps[3])


def test_batch_norms_of_all_ages_give_the_same(tmp_path: Path) -> None:
    make = Maker()
    mean, variance, bias = make.array(2), make.array(2) ** 2, make.array(2)
    ages: tuple[dict[str, Any], ...] = (
        {"running_var": variance, "weight": np.ones(2, np.float32), "eps": 1e-5},
        {"running_var": variance},  # 1e-5 was the only one then, and the weight was optional
        {"running_std": 1 / np.sqrt(variance + np.float32(1e-5))},
    )
    states = []
    for fields in ages:
        tree = trees.deepmask(Maker())
        norm = tree.fields["trunk"].fields["modules"][1]
        norm.name = "nn.SpatialBatchNormalization"
        norm.fields = {"running_mean": mean, "bias": bias, **fields}
        states.append(import_tree(tmp_path, tree).state)
    for state in states[1:]:
        for name, expected in states[0].items():
            torch.testing.assert_close(state[name], expected)


def test_old_convolutions_with_weights_in_two_axes_are_read(tmp_path: Path) -> None:
    expected = import_tree(tmp_path, trees.deepmask(Maker())).state
    tree = trees.deepmask(Maker(classes="nn"))
    for module in every_module(tree):
        if module.name.endswith("Convolution"):
            module.name = "nn.SpatialConvolutionMM"
            for name in ("weight", "gradWeight"):
                array = module.fields[name]
                module.fields[name] = array.reshape(len(array), -1)
    state = import_tree(tmp_path, tree).state
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("options", [{"long_size": 4}, {"versions": False}])
def test_files_of_old_and_of_other_machines_give_the_same(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    tree = trees.sharpmask(Maker())
    expected = import_tree(tmp_path, tree).state
    state = import_tree(tmp_path, tree, **options).state
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_network_set_up_for_whole_images_gives_the_same(tmp_path: Path) -> None:
    """DeepMask:inference() turns linear layers into convolutions and removes crops and views."""
    tree = trees.deepmask(Maker())
    expected = import_tree(tmp_path, tree).state
    trunk = tree.fields["trunk"].fields["modules"]
    trunk[7], trunk[10] = node("nn.Identity"), node("nn.Identity")
    for linear, inputs, side in ((trunk[11], 3, 10), (score_layer(tree, 1), 5, 1)):
        linear.name = "cudnn.SpatialConvolution"
        for name in ("weight", "gradWeight"):
            linear.fields[name] = linear.fields[name].reshape(-1, inputs, side, side)
        linear.fields |= {"nInputPlane": inputs, "kW": side, "kH": side, "padW": 0}
    state = import_tree(tmp_path, tree).state
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_what_was_ignored_is_counted(tmp_path: Path) -> None:
    ignored = import_tree(tmp_path, trees.deepmask(Maker())).ignored
    assert ignored["nn.Dropout"] == 2
    assert ignored["nn.View"] == 3
    convolutions, linears = 1 + 3 * (3 + 4 + 6) + 3 + 1, 4
    assert ignored["field gradWeight"] == convolutions + linears


def test_other_padding_is_noted(tmp_path: Path) -> None:
    notes = import_tree(tmp_path, trees.deepmask(Maker(symmetric=False))).notes
    (note,) = notes
    assert note.startswith("14 convolutions pad by SpatialZeroPadding in the file and by symmetric")


def test_other_padding_of_the_refinement_is_noted_too(tmp_path: Path) -> None:
    tree = trees.sharpmask(Maker())
    paddings = [
        one
        for module in (tree.fields["trunk"], *tree.fields["neths"].values())
        for one in every_module(module)
        if "SymmetricPadding" in one.name
    ]
    for one in paddings:
        one.name = "nn.SpatialZeroPadding"
    notes = import_tree(tmp_path, tree).notes
    text = "convolutions pad by SpatialZeroPadding in the file and by symmetric"
    assert [note.partition(text)[:2] for note in notes] == [("14 ", text), ("12 ", text)]
