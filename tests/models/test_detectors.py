# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN, narrow: towers, regions, heads, and their inputs."""

from __future__ import annotations

import pytest
import torch
from tests.samples.networks import NARROW, narrow
from torch import nn

from foveate.models import MultiPathNet, build
from foveate.models.multipathnet import (
    LinearTower,
    RegionPooling,
    foveal_boxes,
    l2_normalized,
    unit_root_mean_square,
)

BOXES = torch.tensor([[20.0, 20.0, 60.0, 52.0], [0.0, 0.0, 127.0, 127.0]])
DETECTORS = [name for name in NARROW if "mask" not in name]


def test_foveal_boxes_are_those_of_the_original_code() -> None:
    box = torch.tensor([[8.0, 4.0, 16.0, 24.0]])  # 8 wide, 20 high
    assert foveal_boxes(box, 1.5).tolist() == [[6.0, -1.0, 18.0, 29.0]]
    assert foveal_boxes(box, 2.0).tolist() == [[4.0, -6.0, 20.0, 34.0]]
    assert foveal_boxes(box, 4.0).tolist() == [[-4.0, -26.0, 28.0, 54.0]]


def test_regions_are_normalized_as_a_whole_and_times_1000() -> None:
    pooled = torch.tensor([3.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]).reshape(2, 1, 2, 2)
    expected = torch.tensor([600.0, 0.0, 0.0, 800.0, 0.0, 0.0, 0.0, 0.0]).reshape(2, 1, 2, 2)
    torch.testing.assert_close(l2_normalized(pooled), expected)


def test_both_normalizations_differ_by_a_constant() -> None:
    torch.manual_seed(0)
    pooled = torch.rand(3, 5, 7, 7)
    ratio = l2_normalized(pooled) / unit_root_mean_square(pooled)
    torch.testing.assert_close(
        ratio / (1000 / (5 * 49) ** 0.5), torch.ones_like(ratio), rtol=1e-5, atol=0
    )


def test_maps_are_normalized_one_by_one_and_side_by_side() -> None:
    torch.manual_seed(0)
    features = {16: torch.rand(1, 2, 8, 8), 8: 100 * torch.rand(1, 3, 16, 16)}
    pooling = RegionPooling(strides=(16, 8), normalize=l2_normalized)
    pooled = pooling(features, BOXES)
    assert pooled.shape == (2, 5, 7, 7)
    for channels in (slice(0, 2), slice(2, 5)):
        norms = pooled[:, channels].flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.full((2,), 1000.0))


def test_the_towers_of_vgg16_read_what_the_paper_says() -> None:
    network = narrow(MultiPathNet, "multipathnet-vgg16", classes=3)
    shapes = [(tower.pooling.region, tower.pooling.strides) for tower in network.towers]
    assert shapes == [
        (1.0, (16, 8, 4)),
        (1.5, (16, 8)),
        (2.0, (16, 8)),
        (4.0, (16,)),
        (1.5, (16, 8, 4)),
    ]
    assert network.strides == (4, 8, 16)
    assert {tower.pooling.rounding for tower in network.towers} == {"v2"}
    assert {tower.pooling.normalize for tower in network.towers} == {l2_normalized}


@pytest.mark.parametrize(
    ("name", "rounding"),
    [
        ("fast-rcnn-vgg16", "caffe"),
        ("multipathnet-mini", "caffe"),
        ("multipathnet-resnet18", "v2"),
        ("multipathnet-resnet50", "v2"),
    ],
)
def test_regions_are_rounded_as_each_network_was_trained(name: str, rounding: str) -> None:
    network = narrow(MultiPathNet, name, classes=3)
    assert {tower.pooling.rounding for tower in network.towers} == {rounding}


def test_without_normalization_conv4_and_conv3_are_divided_and_conv5_is_passed_on() -> None:
    network = build("multipathnet-vgg16", classes=3, width=4, mixed=32, hidden=16, normalised=0)
    assert isinstance(network, MultiPathNet)
    tower = network.towers[0]
    features = {
        16: torch.rand(1, 32, 8, 8),
        8: torch.rand(1, 32, 16, 16),
        4: torch.rand(1, 16, 32, 32),
    }
    with torch.inference_mode():
        pooled = tower.pooling(features, BOXES)
        plain = RegionPooling(strides=(16, 8, 4), rounding="v2")(features, BOXES)
        mixed = tower.get_submodule("mix")(pooled)
        bias = tower.get_parameter("mix.bias")[:, None, None]
    for factor, channels in ((1, slice(0, 32)), (30, slice(32, 64)), (200, slice(64, 80))):
        torch.testing.assert_close(factor * pooled[:, channels], plain[:, channels])
    torch.testing.assert_close(mixed, pooled[:, :32] + bias)


def test_a_vgg16_tower_is_a_bare_1x1_convolution_and_two_linear_layers() -> None:
    tower = narrow(MultiPathNet, "multipathnet-vgg16", classes=3).towers[3]
    assert isinstance(tower, LinearTower)
    assert isinstance(tower.embed, nn.Sequential)
    fc6, _, _, fc7 = tower.embed
    pooled = torch.randn(2, 32, 7, 7)
    with torch.inference_mode():
        expected = torch.relu(fc7(torch.relu(fc6(tower.mix(pooled).flatten(1)))))
        torch.testing.assert_close(tower(pooled), expected)


@pytest.mark.parametrize(
    ("name", "heads"), [(name, 1 if "fast" in name else 6) for name in DETECTORS]
)
def test_a_detector_returns_probabilities_and_deltas(name: str, heads: int) -> None:
    network = narrow(MultiPathNet, name, classes=3)
    image = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        features = network.features(image)
        logits, _ = network.logits(network.pool(features, BOXES))
        probabilities, deltas = network(features, BOXES)
    assert logits.shape == (heads, 2, 4)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
    assert deltas.shape == (2, 4, 4)


def test_the_box_tower_regresses_and_does_not_classify() -> None:
    network = narrow(MultiPathNet, "multipathnet-vgg16", classes=3)
    with torch.inference_mode():
        pooled = network.pool(network.features(torch.randn(1, 3, 128, 128)), BOXES)
        logits, deltas = network.logits(pooled)
        changed = [*pooled[:-1], torch.randn_like(pooled[-1])]
        other_logits, other_deltas = network.logits(changed)
        assert torch.equal(logits, other_logits)
        assert not torch.equal(deltas, other_deltas)
        _, same_deltas = network.logits([torch.randn_like(p) for p in pooled[:-1]] + pooled[-1:])
    assert torch.equal(deltas, same_deltas)


@pytest.mark.parametrize(("name", "cells"), [("multipathnet-resnet18", 32)])
def test_a_residual_tower_is_the_last_stage_of_the_trunk_averaged(name: str, cells: int) -> None:
    network = narrow(MultiPathNet, name, classes=3)
    (tower,) = network.towers
    assert tower.pooling.side == 14
    pooled = torch.randn(2, 16, 14, 14)
    stage = tower.get_submodule("layer4")
    with torch.inference_mode():
        out = stage(pooled)
        assert out.shape == (2, cells, 7, 7)
        torch.testing.assert_close(tower(pooled), out.mean((2, 3)))


@pytest.mark.parametrize("name", DETECTORS)
def test_every_trained_parameter_of_a_detector_has_a_gradient(name: str) -> None:
    network = narrow(MultiPathNet, name, classes=3).train()
    # The small heads hand almost nothing back; larger ones show what is connected.
    for head in [*network.class_heads, network.box_head]:
        nn.init.normal_(head.get_parameter("weight"))
    logits, deltas = network.logits(
        network.pool(network.features(torch.randn(1, 3, 128, 128)), BOXES)
    )
    (logits.square().sum() + deltas.square().sum()).backward()  # type: ignore[no-untyped-call]  # untyped in PyTorch
    for parameter_name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name


def test_heads_start_small() -> None:
    torch.manual_seed(0)
    network = build("fast-rcnn-vgg16", width=4, hidden=256)
    assert isinstance(network, MultiPathNet)
    head = network.class_heads[0]
    assert isinstance(head, nn.Linear)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert network.box_head.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not head.bias.any()
