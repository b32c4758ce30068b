# SPDX-License-Identifier: Apache-2.0
"""Trunks and their parts: symmetric padding, frozen affine maps, both forms of a block, maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from foveate.models.layers import FrozenAffine, SymmetricConv2d, symmetric_pad
from foveate.models.resnet import BasicBlock, Bottleneck, ResNet
from foveate.models.trunk import CAFFE, IMAGENET
from foveate.models.vgg import VGG, VGG_16, VGG_A


def narrow_resnet(block: type[BasicBlock | Bottleneck] = Bottleneck) -> ResNet:
    return ResNet(
        block=block,
        depths=(1, 2, 1),
        width=4,
        padding="symmetric",
        affine_after_addition=False,
        frozen_stages=0,
        normalization=IMAGENET,
    )


@given(height=st.integers(3, 9), width=st.integers(3, 9), pad=st.integers(1, 3))
def test_symmetric_padding_repeats_the_edge(height: int, width: int, pad: int) -> None:
    x = np.arange(height * width, dtype=np.float32).reshape(1, 1, height, width)
    expected = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    assert np.array_equal(symmetric_pad(torch.from_numpy(x), pad).numpy(), expected)


@pytest.mark.parametrize("pad", [1, 3])
def test_the_gradient_of_padding_is_dropped(pad: int) -> None:
    x = torch.zeros(1, 1, 4, 5, requires_grad=True)
    padded = symmetric_pad(x, pad)
    weights = torch.arange(padded.numel(), dtype=torch.float32).reshape(padded.shape)
    (padded * weights).sum().backward()  # type: ignore[no-untyped-call]  # untyped in PyTorch
    assert x.grad is not None
    assert torch.equal(x.grad, weights[:, :, pad:-pad, pad:-pad])


def test_a_symmetric_convolution_convolves_the_padded_input() -> None:
    torch.manual_seed(0)
    convolution = SymmetricConv2d(2, 3, 7, 2)
    x = torch.randn(1, 2, 10, 11)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="symmetric"))
    expected = nn.functional.conv2d(padded, convolution.weight, convolution.bias, 2)
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_an_affine_map_after_the_addition_acts_on_the_sum(
    block: type[BasicBlock | Bottleneck],
) -> None:
    torch.manual_seed(0)
    module = block(4 * block.expansion, 4, 1, padding="zeros", affine_after_addition=True)
    affine = module.affine_out
    assert isinstance(affine, FrozenAffine)
    affine.scale.fill_(2.0)
    affine.shift.fill_(-0.5)
    x = torch.randn(1, 4 * block.expansion, 5, 5)
    expected = torch.relu(2 * (module.branch(x) + x) - 0.5)
    torch.testing.assert_close(module(x), expected)
    # In this form the summands have no affine map of their own.
    assert sum(isinstance(part, FrozenAffine) for part in module.modules()) == (
        2 if block is BasicBlock else 3
    )


def test_the_stride_of_a_bottleneck_sits_on_its_3x3_convolution() -> None:
    block = Bottleneck(8, 4, 2, padding="symmetric", affine_after_addition=False)
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))
    assert isinstance(block.conv2, SymmetricConv2d)


@pytest.mark.parametrize("side", [192, 193, 207, 208])
def test_each_halving_of_a_resnet_rounds_up(side: int) -> None:
    trunk = narrow_resnet(BasicBlock)
    with torch.inference_mode():
        features = trunk(torch.zeros(1, 3, side, 64))
    assert {stride: f.shape[2] for stride, f in features.items()} == {
        stride: math.ceil(side / stride) for stride in (2, 4, 8, 16)
    }
    assert {stride: f.shape[1] for stride, f in features.items()} == trunk.channels


def test_a_resnet_keeps_its_scale_at_random_weights() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        features = narrow_resnet()(torch.randn(1, 3, 96, 96))
    assert 0.1 < features[16].square().mean().sqrt() < 10


@pytest.mark.parametrize(("depths", "layers"), [(VGG_A, 20), (VGG_16, 30)])
def test_a_vgg_counts_its_layers_as_published(depths: tuple[int, ...], layers: int) -> None:
    trunk = VGG(depths=depths, width=2, frozen_stages=2, normalization=CAFFE)
    assert len(trunk.features) == layers
    with torch.inference_mode():
        features = trunk(torch.zeros(1, 3, 64, 96))
    assert {stride: f.shape[1:] for stride, f in features.items()} == {
        stride: (channels, 64 // stride, 96 // stride)
        for stride, channels in trunk.channels.items()
    }
    assert torch.equal(features[16], trunk.features(torch.zeros(1, 3, 64, 96)))


def test_normalization_orders_and_scales_the_channels() -> None:
    image = torch.tensor([[[[255, 0, 128]]]], dtype=torch.uint8)
    rgb = IMAGENET(image).flatten()
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(rgb, torch.tensor(expected))
    bgr = CAFFE(image).flatten()
    torch.testing.assert_close(bgr, torch.tensor([128 - 102.9801, -115.9465, 255 - 122.7717]))
