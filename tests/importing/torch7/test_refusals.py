# SPDX-License-Identifier: Apache-2.0
"""Torch7 files with networks that are damaged or of another architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.samples.torch7 import models as trees
from tests.samples.torch7.models import (
    Maker,
    every_module,
    saved,
    score_layer,
    sequential,
    trunk_module,
)
from tests.samples.torch7.writer import T7Object, write_torch7

from foveate.errors import ModelError
from foveate.importing import ImportedWeights, import_torch7


def import_tree(tmp_path: Path, model: T7Object) -> ImportedWeights:
    return import_torch7(write_torch7(tmp_path / "model.t7", saved(model)))


def test_layers_may_not_share_weights_that_the_file_has_once(tmp_path: Path) -> None:
    """Otherwise a small file could become a network of any size."""
    tree = saved(trees.deepmask(Maker()))["model"]
    for linear in (score_layer(tree, 1), score_layer(tree, 4)):
        linear.fields["weight"] = trunk_module(tree, 11).fields["weight"]
    file = write_torch7(tmp_path / "model.t7", tree)
    with pytest.raises(ModelError, match="expected a storage for every weight, found"):
        import_torch7(file)


def test_a_layer_without_a_use_is_refused(tmp_path: Path) -> None:
    tree = trees.sharpmask(Maker())
    last = tree.fields["refs"][4].fields["modules"][0]
    last.fields["modules"].append(sequential(Maker().linear(2, 2)))
    with pytest.raises(ModelError, match="use for every layer .*, found 1 more: nn.Linear at refs"):
        import_tree(tmp_path, tree)


def test_vgg_with_other_pooling_is_refused(tmp_path: Path) -> None:
    tree = trees.deepmask_vgg(Maker(symmetric=False))
    pools = [one for one in every_module(tree.fields["trunk"]) if "MaxPooling" in one.name]
    pools[0].fields["kW"] = 3
    with pytest.raises(
        ModelError, match="expected a pooling of side 2, stride 2 and padding 0 .*found 3, 2 and 0"
    ):
        import_tree(tmp_path, tree)


def drop_a_block(tree: T7Object) -> None:
    trunk_module(tree, 6).fields["modules"].pop()


def break_a_branch(tree: T7Object) -> None:
    block = trunk_module(tree, 4).fields["modules"][0]
    block.fields["modules"][0].fields["modules"][0].fields["modules"].pop(2)


def move_the_stride(tree: T7Object) -> None:
    branch = trunk_module(tree, 5).fields["modules"][0].fields["modules"][0].fields["modules"][0]
    branch.fields["modules"][0].fields["dW"] = 2


def lose_the_masks(tree: T7Object) -> None:
    del tree.fields["maskBranch"]


def spoil_a_weight(tree: T7Object) -> None:
    score_layer(tree, 1).fields["weight"][0, 0] = np.nan


def shorten_a_bias(tree: T7Object) -> None:
    score_layer(tree, 1).fields["bias"] = np.zeros(6, np.float32)


def narrow_a_layer(tree: T7Object) -> None:
    score_layer(tree, 4).fields["weight"] = np.zeros((1, 6), np.float32)


def flatten_a_window_that_is_not_square(tree: T7Object) -> None:
    trunk_module(tree, 11).fields["weight"] = np.zeros((5, 3 * 99), np.float32)


def use_an_unknown_layer(tree: T7Object) -> None:
    score_layer(tree, 1).name = "nn.SpatialFullConvolution"


def stride_the_shortcut(tree: T7Object) -> None:
    fork = trunk_module(tree, 5).fields["modules"][0].fields["modules"][0]
    fork.fields["modules"][1].fields["modules"][0].fields["dW"] = 1


def misfit_the_shortcut(tree: T7Object) -> None:
    fork = trunk_module(tree, 4).fields["modules"][0].fields["modules"][0]
    first, norm = fork.fields["modules"][1].fields["modules"]
    first.fields["weight"] = np.zeros((9, 2, 1, 1), np.float32)
    norm.fields |= {"a": np.zeros(9, np.float32), "b": np.zeros(9, np.float32)}
    trunk_module(tree, 4).fields["modules"][0].fields["modules"].insert(2, Maker().norm(8))


def flatten_a_weight(tree: T7Object) -> None:
    score_layer(tree, 1).fields["weight"] = np.zeros(35, np.float32)


def negate_sizes(tree: T7Object) -> None:
    trunk_module(tree, 8).fields |= {"nInputPlane": -32, "kW": -1}


def misfit_a_norm(tree: T7Object) -> None:
    trunk_module(tree, 1).fields["b"] = np.zeros(1, np.float32)


def keep_the_size_at_first(tree: T7Object) -> None:
    stem = trunk_module(tree, 0).fields["modules"][1]
    stem.fields["dW"] = 1


def add_a_branch(tree: T7Object) -> None:
    fork = trunk_module(tree, 4).fields["modules"][1].fields["modules"][0]
    fork.fields["modules"].append(fork.fields["modules"][1])


def pool_without_padding(tree: T7Object) -> None:
    trunk_module(tree, 3).fields["padW"] = 0


def pad_too_much(tree: T7Object) -> None:
    trunk_module(tree, 0).fields["modules"][0].fields["pad_l"] = 4


def group_channels(tree: T7Object) -> None:
    trunk_module(tree, 8).fields["groups"] = 2


def add_a_layer(tree: T7Object) -> None:
    tree.fields["maskBranch"].fields["modules"].append(
        T7Object("nn.ConcatTable", {"modules": [sequential(Maker().linear(2, 2))]})
    )


def become_recursive(tree: T7Object) -> None:
    modules = tree.fields["trunk"].fields["modules"]
    modules.append(tree.fields["trunk"])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (drop_a_block, r"expected a trunk of 3, 4 and 6 blocks .*, found \[3, 4, 5\] blocks"),
        (break_a_branch, r"layers 'conv.*' of a branch in nn.ConcatTable at trunk.modules\[5\]"),
        (
            move_the_stride,
            r"expected a stride of 1 or 2 on convolution 2 .*found strides \[2, 2, 1",
        ),
        (lose_the_masks, "expected a module at maskBranch, found nil"),
        (spoil_a_weight, r"finite numbers in weight of nn.Linear at scoreBranch.modules\[2\]"),
        (shorten_a_bias, r"expected 7 biases in .*, found shape \(6,\)"),
        (narrow_a_layer, r"score.4.weight of shape \(1, 7, 1, 1\) .*, found \(1, 6, 1, 1\)"),
        (
            use_an_unknown_layer,
            r"known class at .*, found a nn.SpatialFullConvolution with weights",
        ),
        (stride_the_shortcut, "expected a shortcut of stride 2 in nn.ConcatTable .*, found 1"),
        (misfit_the_shortcut, r"expected as many channels .* in the shortcut .*, found \[8, 9\]"),
        (
            flatten_a_window_that_is_not_square,
            "expected inputs for 3 channels of a square window in nn.Linear .*, found 297",
        ),
        (flatten_a_weight, "expected 35 biases in nn.Linear at scoreBranch.*, found"),
        (negate_sizes, r"expected weights for -32 channels and 1x-1 pixels in one group in"),
        (
            misfit_a_norm,
            r"expected 2 values in b of inn.ConstAffine at trunk.modules\[2\], found 1",
        ),
        (keep_the_size_at_first, "expected a stride of 2 in .*Convolution .*, found 1"),
        (add_a_branch, "'fork sum relu' with two branches at .*, found 'fork sum relu.*' with 3"),
        (pool_without_padding, "side 3, stride 2 and padding 1 in .*, found 3, 2 and 0"),
        (pad_too_much, "expected 3 pixels of padding .*, found 4"),
        (group_channels, "in one group in .*, found .* and 2 groups"),
        (add_a_layer, "in the mask branch, found 'linear fork'"),
        (become_recursive, "expected at most 20000 modules, 64 deep, found more at"),
    ],
)
def test_another_architecture_is_refused_by_what_differs(
    tmp_path: Path, spoil: Callable[[T7Object], None], expected: str
) -> None:
    tree = trees.deepmask(Maker())
    spoil(tree)
    with pytest.raises(ModelError, match=expected) as caught:
        import_tree(tmp_path, tree).build()
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ({"model": 3}, "expected a network in the file, found number"),
        ({"config": {}}, "expected a network in the file, found nil"),
        (T7Object("nn.LookupTable", {"size": 3}), "expected a network, found a nn.LookupTable"),
        (sequential(Maker().linear(2, 3)), "expected a detector: .*, found 'linear'"),
    ],
)
def test_a_file_without_a_network_is_refused(tmp_path: Path, root: Any, expected: str) -> None:
    file = write_torch7(tmp_path / "file.t7", trees.sealed(root, {}))
    with pytest.raises(ModelError, match=f"{expected}.*: .*file.t7: import a "):
        import_torch7(file)
