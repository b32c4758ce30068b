# SPDX-License-Identifier: Apache-2.0
"""A pass over a whole image is a pass over each of its windows."""

from __future__ import annotations

import math

import pytest
import torch
from tests.samples.networks import narrow
from torch import Tensor, nn
from torch.nn import functional

from foveate.models import DeepMask, SharpMask, build
from foveate.models.deepmask import STRIDE
from foveate.models.sharpmask import SKIP_STRIDES

GRIDS = ((7, 9), (9, 11), (12, 16), (16, 21), (23, 30), (31, 41), (44, 58))
"""Grids of an image of 480x640 at the scales 2^-2.5, 2^-2, ..., 2^0.5."""


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def linear(x: Tensor, layer: nn.Module) -> Tensor:
    """Apply a convolution or linear layer as a linear layer to rows of numbers."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return functional.linear(x, layer.weight.flatten(1), layer.bias)


def linear_heads(network: DeepMask, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (K,) and masks (K, S, S) of each window, with linear layers as heads."""
    cells = network.window // STRIDE
    reduced = torch.relu(network.neck(features))
    windows = functional.unfold(reduced, cells)[0].T
    scores, masks = [], []
    for chunk in torch.split(windows, 512):
        vectors = linear(chunk, network.embed)
        hidden = torch.relu(linear(vectors, network.score[1]))
        scores.append(linear(hidden, network.score[4]).flatten())
        masks.append(linear(vectors, network.mask))
    side = network.mask_side
    return torch.cat(scores), torch.cat(masks).reshape(-1, side, side)


def check_every_window(network: DeepMask, level: int) -> None:
    scale = 2 ** (level / 2 - 2.5)
    height, width = (math.floor(side * scale + 0.5) for side in (480, 640))
    image = torch.randn(1, 3, height + 2 * network.border, width + 2 * network.border)
    with torch.inference_mode():
        features = network.trunk(image)[STRIDE]
        scores, vectors = network.windows(features)
        assert scores.shape[2:] == GRIDS[level]
        expected_scores, expected_masks = linear_heads(network, features)
        masks = network.masks(vectors[0].flatten(1).T)
    assert relative_error(scores.flatten(), expected_scores) < 1e-5
    assert relative_error(masks, expected_masks) < 1e-5


@pytest.mark.parametrize("level", range(7))
def test_convolutional_heads_are_linear_heads_on_every_window(level: int) -> None:
    torch.manual_seed(level)
    check_every_window(narrow(DeepMask, "deepmask-resnet50"), level)


@pytest.mark.slow
@pytest.mark.parametrize("level", range(7))
def test_full_size_convolutional_heads_are_linear_heads_on_every_window(level: int) -> None:
    torch.manual_seed(level)
    network = build("deepmask-resnet50").eval()
    assert isinstance(network, DeepMask)
    check_every_window(network, level)


def test_a_pass_over_one_patch_has_patch_mode_at_its_center() -> None:
    network = narrow(DeepMask, "deepmask-resnet50")
    patches = torch.randn(2, 3, network.patch_side, network.patch_side)
    assert network.patch_side == 192
    with torch.inference_mode():
        scores, vectors = network(patches)
        assert scores.shape == (2, 1, 3, 3)
        torch.testing.assert_close(network.patch_scores(patches), scores[:, 0, 1, 1])
        masks = network.masks(vectors[:, :, 1, 1])
        upsampled = functional.interpolate(
            masks[:, None], (112, 112), mode="bilinear", align_corners=True
        )
        torch.testing.assert_close(network.patch_masks(patches), upsampled[:, 0])


def test_upsampled_masks_keep_the_corners_in_place() -> None:
    network = narrow(DeepMask, "deepmask-resnet50")
    patches = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        large = network.patch_masks(patches)
        small = network.masks(network(patches)[1][:, :, 1, 1])
    torch.testing.assert_close(large[:, ::111, ::111], small[:, ::55, ::55])


def test_a_patch_of_the_first_deepmask_is_its_window() -> None:
    network = narrow(DeepMask, "deepmask-vgg")
    patches = torch.randn(2, 3, 224, 224)
    assert network.patch_side == network.window == 224
    with torch.inference_mode():
        scores, vectors = network(patches)
        assert scores.shape == (2, 1, 1, 1)
        assert vectors.shape == (2, 24, 1, 1)
        assert torch.equal(network.patch_scores(patches), scores.flatten())
        assert network.patch_masks(patches).shape == (2, 224, 224)


def test_the_score_head_of_the_first_deepmask_interleaves_four_offsets() -> None:
    network = narrow(DeepMask, "deepmask-vgg")
    features = torch.randn(1, 32, 17, 19)
    with torch.inference_mode():
        scores, _ = network.windows(features)
        assert scores.shape == (1, 1, 4, 6)
        expected = torch.full_like(scores, torch.nan)
        first, second, last = (network.score[index] for index in (1, 4, 7))
        assert isinstance(first, nn.Conv2d)
        for y in range(2):
            for x in range(2):
                pooled = functional.max_pool2d(features[:, :, y:, x:], 2)
                # Without dilation: 7x7 neighbors of the pooled map of one offset.
                hidden = torch.relu(functional.conv2d(pooled, first.weight, first.bias))
                expected[:, :, y::2, x::2] = last(torch.relu(second(hidden)))
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_refined_patch_is_the_window_of_the_whole_map_except_for_its_rim(form: str) -> None:
    network = narrow(SharpMask, "sharpmask-resnet50", form=form)
    patches = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        _, vectors, horizontals = network(patches)
        alone = network.horizontals(network.deepmask.patch_features(patches))
        windows = [
            h[:, :, 16 // s : -16 // s, 16 // s : -16 // s]
            for h, s in zip(horizontals, SKIP_STRIDES, strict=True)
        ]
        # Three 3x3 convolutions see three cells beyond the window's edge: the patch has padding
        # there, and the map has neighbors.
        for inside, patch in zip(windows, alone, strict=True):
            torch.testing.assert_close(inside[:, :, 3:-3, 3:-3], patch[:, :, 3:-3, 3:-3])
            assert relative_error(inside, patch) > 1e-3
        masks = network.patch_masks(patches)
        torch.testing.assert_close(network.refine(vectors[:, :, 1, 1], alone), masks)
    assert masks.shape == (1, 160, 160)


def test_the_original_refinement_repeats_pixels_and_that_of_the_paper_interpolates() -> None:
    released, paper = (
        narrow(SharpMask, "sharpmask-resnet50", form=form) for form in ("released", "paper")
    )
    encoding = torch.randn(1, 16, 10, 10)
    with torch.inference_mode():
        out = released.coarse_to_fine[0].upsample(encoding)
        assert torch.equal(out[:, :, ::2, ::2], out[:, :, 1::2, 1::2])
        out = paper.coarse_to_fine[0].upsample(encoding)
    assert not torch.equal(out[:, :, ::2, ::2], out[:, :, 1::2, 1::2])


def test_the_refinement_of_the_paper_convolves_the_concatenation() -> None:
    module = narrow(SharpMask, "sharpmask-resnet50", form="paper", ks=16).coarse_to_fine[0]
    *reduce, last = module.horizontal
    assert isinstance(last, nn.Conv2d)
    assert isinstance(module.vertical, nn.Conv2d)
    skip, encoding = torch.randn(1, 64, 10, 10), torch.randn(1, 32, 10, 10)
    with torch.inference_mode():
        both = torch.cat([nn.Sequential(*reduce)(skip), encoding], dim=1)
        assert both.shape[1] == 16 + 32
        padded = functional.pad(both, (1, 1, 1, 1), mode="replicate")
        weight = torch.cat([last.weight, module.vertical.weight], dim=1)
        whole = torch.relu(functional.conv2d(padded, weight, last.bias))
        split = module(encoding, module.horizontal(skip), nn.Identity())
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)
