# SPDX-License-Identifier: Apache-2.0
"""The mini networks: sizes, shapes, and one cell of the grid against its own window."""

from __future__ import annotations

import pytest
import torch
from tests.samples.networks import narrow, parameters

from foveate.errors import ModelError
from foveate.models import DeepMask, EfficientNetLite0, MultiPathNet, SharpMask, build
from foveate.models.deepmask import CELLS
from foveate.models.efficientnet_lite import EfficientNetLite0Continuation
from foveate.models.layers import BilinearUpsample2d
from foveate.models.multipathnet import foveal_boxes, mean_of_softmaxes
from foveate.models.sharpmask import SKIP_STRIDES


@pytest.fixture(scope="module")
def sharpmask() -> SharpMask:
    return narrow(SharpMask, "sharpmask-mini")


@pytest.fixture(scope="module")
def multipathnet() -> MultiPathNet:
    return narrow(MultiPathNet, "multipathnet-mini")


def test_mini_has_at_most_six_million_parameters(
    sharpmask: SharpMask, multipathnet: MultiPathNet
) -> None:
    assert parameters(sharpmask) + parameters(multipathnet) <= 6_000_000


def test_an_unknown_network_is_refused_with_the_known_names() -> None:
    with pytest.raises(ModelError, match="no network is named 'yolo'.*deepmask-mini"):
        build("yolo")


def test_the_trunk_is_frozen(sharpmask: SharpMask) -> None:
    assert not any(p.requires_grad for p in sharpmask.deepmask.trunk.parameters())


@pytest.mark.parametrize(("height", "width"), [(192, 256), (208, 240), (176, 176)])
def test_a_trunk_and_its_continuation_are_the_whole_trunk(height: int, width: int) -> None:
    torch.manual_seed(0)
    whole, first = EfficientNetLite0(last_stride=32), EfficientNetLite0(last_stride=16)
    rest = EfficientNetLite0Continuation()
    state = imagenet_state(whole)
    for part in (whole, first, rest):
        part.load_imagenet(state)
    image = torch.randn(1, 3, height, width)
    with torch.inference_mode():
        expected, found = whole(image), rest(first(image))
    assert list(found) == list(expected) == [2, 4, 8, 16, 32]
    for stride, maps in expected.items():
        # An odd number of cells of stride 16 is halved and rounded down.
        assert maps.shape[2:] == (height // stride, width // stride)
        assert torch.equal(found[stride], maps)
    assert expected[32].std() > 0


def imagenet_state(trunk: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """Return random weights with the names of the published ones."""
    layers = {"_conv_stem": (trunk.stem, "_bn0")}
    for index, block in enumerate(trunk.blocks):
        for number, name in enumerate(("expand", "depthwise", "project")):
            layer = getattr(block, name)
            if layer is not None:
                norm = f"_blocks.{index}._bn{number}"
                layers[f"_blocks.{index}._{name}_conv"] = (layer, norm)
    state: dict[str, torch.Tensor] = {}
    for name, (layer, norm) in layers.items():
        scale, variance = torch.rand(2, layer.out_channels) + 0.5
        mean, bias = torch.randn(2, layer.out_channels) / 10
        state[f"{name}.weight"] = torch.randn(layer.weight.shape) / 3
        numbers = {"running_mean": mean, "running_var": variance, "weight": scale, "bias": bias}
        state |= {f"{norm}.{part}": value for part, value in numbers.items()}
    return state


def test_the_grid_has_a_cell_for_every_window(sharpmask: SharpMask) -> None:
    with torch.inference_mode():
        scores, vectors, horizontals = sharpmask(torch.zeros(1, 3, 192, 256))
    assert scores.shape == (1, 1, 192 // 16 - 9, 256 // 16 - 9)
    assert vectors.shape == (1, 256, 3, 7)
    sides = [(h.shape[2], h.shape[3]) for h in horizontals]
    assert sides == [(192 // stride, 256 // stride) for stride in SKIP_STRIDES]


def test_a_cell_of_the_grid_is_its_own_window_of_the_features(sharpmask: SharpMask) -> None:
    deepmask = sharpmask.deepmask
    features = torch.randn(1, deepmask.neck.in_channels, 14, 17)
    with torch.inference_mode():
        grid = deepmask.scores(deepmask.vectors(features))
        window = features[:, :, 2 : 2 + CELLS, 5 : 5 + CELLS]
        alone = deepmask.scores(deepmask.vectors(window))
    torch.testing.assert_close(grid[0, 0, 2, 5], alone[0, 0, 0, 0])


def test_masks_cover_the_window(sharpmask: SharpMask) -> None:
    deepmask = sharpmask.deepmask
    vectors = torch.randn(2, 256)
    horizontals = [
        torch.randn(2, module.outputs, 160 // stride, 160 // stride)
        for module, stride in zip(sharpmask.coarse_to_fine, SKIP_STRIDES, strict=True)
    ]
    with torch.inference_mode():
        assert deepmask.masks(vectors).shape == (2, deepmask.mask_side, deepmask.mask_side)
        assert sharpmask.refine(vectors, horizontals).shape == (2, 160, 160)


def test_refinement_convolves_the_concatenation_of_skip_features_and_encoding(
    sharpmask: SharpMask,
) -> None:
    module = sharpmask.coarse_to_fine[1]
    reduce, relu, horizontal = module.horizontal.children()
    assert isinstance(reduce, torch.nn.Conv2d)
    assert isinstance(horizontal, torch.nn.Conv2d)
    assert isinstance(module.vertical, torch.nn.Conv2d)
    skip = torch.randn(1, reduce.in_channels, 12, 12)
    encoding = torch.randn(1, module.vertical.in_channels, 12, 12)
    with torch.inference_mode():
        split = module(encoding, module.horizontal(skip), torch.nn.Identity())
        both = torch.cat([relu(reduce(skip)), encoding], dim=1)
        weight = torch.cat([horizontal.weight, module.vertical.weight], dim=1)
        whole = torch.relu(torch.nn.functional.conv2d(both, weight, horizontal.bias, padding=1))
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)


def test_upsampling_keeps_a_linear_ramp_linear_away_from_the_edges() -> None:
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    upsampled = BilinearUpsample2d(2)(ramp)
    expected = torch.arange(12.0) / 2 - 0.25
    torch.testing.assert_close(upsampled[0, 0, 3, 1:-1], expected[1:-1])


def test_foveal_boxes_grow_about_their_center() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    torch.testing.assert_close(foveal_boxes(boxes, 1.0), boxes)
    torch.testing.assert_close(
        foveal_boxes(boxes, 4.0), torch.tensor([[-20.0, -40.0, 60.0, 120.0]])
    )


def test_probabilities_are_the_mean_of_the_heads(multipathnet: MultiPathNet) -> None:
    logits = torch.randn(6, 3, 11)
    mean = mean_of_softmaxes(logits)
    torch.testing.assert_close(mean.sum(1), torch.ones(3))
    torch.testing.assert_close(mean[1], torch.softmax(logits[:, 1], 1).mean(0))


def test_classification_reads_a_larger_region_than_the_box(multipathnet: MultiPathNet) -> None:
    trunk = EfficientNetLite0(last_stride=16)
    image = torch.zeros(1, 3, 256, 256)
    boxes = torch.tensor([[110.0, 110.0, 150.0, 150.0]])
    with torch.inference_mode():
        before, deltas = multipathnet(multipathnet.features(trunk(image)), boxes)
        image[:, :, 40:60, 110:150] = 1.0  # outside the box, inside its fourfold region
        after, _ = multipathnet(multipathnet.features(trunk(image)), boxes)
    assert deltas.shape == (1, 11, 4)
    assert not torch.equal(before, after)


def test_deepmask_and_sharpmask_are_what_their_names_say() -> None:
    assert isinstance(build("deepmask-mini"), DeepMask)
    assert build("multipathnet-mini", classes=3).classes == 3
