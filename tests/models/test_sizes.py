# SPDX-License-Identifier: Apache-2.0
"""Full-size networks, without memory for their weights: published counts, sizes, new trunks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.samples.networks import parameters
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate.models import BUILDERS, DeepMask, MultiPathNet, SharpMask, build
from foveate.models.build import on_trunk
from foveate.models.checkpoint import Cascade, CascadeInfo, load_checkpoint, save_checkpoint
from foveate.models.trunk import IMAGENET, Trunk


def on_meta(name: str, **sizes: int | str) -> nn.Module:
    with torch.device("meta"):
        return build(name, **sizes)


def test_deepmask_resnet50_has_the_published_counts() -> None:
    network = on_meta("deepmask-resnet50")
    assert isinstance(network, DeepMask)
    assert parameters(network.trunk) == 8_512_704
    assert parameters(network.trunk, network.neck, network.embed) == 15_198_016
    assert parameters(network.mask) == 1_608_768
    assert parameters(network.score) == 526_337
    assert parameters(network) == 17_333_121


def test_sharpmask_resnet50_has_the_published_counts() -> None:
    network = on_meta("sharpmask-resnet50")
    assert isinstance(network, SharpMask)
    horizontals = [parameters(module.horizontal) for module in network.coarse_to_fine]
    assert horizontals == [612_976, 305_368, 152_428, 19_694]
    verticals = [parameters(module.vertical) for module in network.coarse_to_fine]
    assert [parameters(network.encode), *verticals] == [1_641_600, 13_872, 3_480, 876, 222]
    assert sum(horizontals) + parameters(network.encode) + sum(verticals) == 2_750_516
    assert parameters(network.mask) == 19


def test_batch_norm_is_frozen_and_counts_no_parameter() -> None:
    plain = on_meta("deepmask-resnet50")
    after = on_meta("deepmask-resnet50", affine_after_addition=1)
    assert parameters(plain) == parameters(after)
    assert {name for name, _ in plain.named_buffers()} != {
        name for name, _ in after.named_buffers()
    }


def test_multipathnet_vgg16_has_624_million_parameters() -> None:
    network = on_meta("multipathnet-vgg16")
    assert isinstance(network, MultiPathNet)
    assert parameters(network.trunk) == 14_714_688
    towers = 5 * (25_088 * 4096 + 4096 + 4096 * 4096 + 4096)
    mixing = (1280 + 1024 + 1024 + 512 + 1280) * 512 + 5 * 512
    heads = 6 * (4 * 4096 * 81 + 81) + 4096 * 324 + 324
    assert parameters(network) == 14_714_688 + towers + mixing + heads == 624_358_506


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("deepmask-mini", 2_815_825),
        ("deepmask-vgg", 75_844_545),
        ("sharpmask-mini", 3_284_778),
        ("multipathnet-mini", 2_073_982),
        ("multipathnet-resnet18", 11_582_442),
        ("multipathnet-resnet50", 25_114_602),
        ("fast-rcnn-vgg16", 134_690_729),
    ],
)
def test_other_networks_keep_their_size(name: str, count: int) -> None:
    assert parameters(on_meta(name)) == count


def test_classes_are_followed_by_heads_of_all_of_them_and_background() -> None:
    network = on_meta("multipathnet-resnet18", classes=3)
    assert isinstance(network, MultiPathNet)
    assert network.box_head.out_features == 16
    assert len(network.class_heads) == 6


@pytest.mark.parametrize("name", ["deepmask-resnet50", "deepmask-vgg"])
def test_the_trunk_of_a_full_size_deepmask_is_trained(name: str) -> None:
    assert all(parameter.requires_grad for parameter in on_meta(name).parameters())


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("multipathnet-vgg16", set()),
        (
            "fast-rcnn-vgg16",
            {f"features.{index}" for index in (10, 12, 14, 17, 19, 21, 24, 26, 28)},
        ),
        ("multipathnet-resnet18", {"layer2", "layer3"}),
    ],
)
def test_a_detector_trains_what_the_original_code_trains_of_the_trunk(
    name: str, trained: set[str]
) -> None:
    network = on_meta(name)
    assert isinstance(network, MultiPathNet)
    found = [name for name, p in network.trunk.named_parameters() if p.requires_grad]
    assert {
        ".".join(name.split(".")[: 2 if "features" in name else 1]) for name in found
    } == trained


def test_an_unknown_size_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ModelError, match="deepmask-vgg takes no size 'depth'.*it takes width, neck"
    ):
        build("deepmask-vgg", depth=3)
    with pytest.raises(
        ModelError, match="deepmask-mini takes no size 'width': it takes vector, border"
    ):
        build("deepmask-mini", width=3)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"form": "papr"}, "no form is named 'papr': use paper or released"),
        ({"width": "narrow"}, "sharpmask-resnet50 cannot be built with width 'narrow'"),
    ],
)
def test_a_value_that_no_size_has_is_refused(sizes: dict[str, int | str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build("sharpmask-resnet50", **sizes)


def test_widths_of_sharpmask_that_cannot_be_halved_four_times_are_refused() -> None:
    with pytest.raises(ModelError, match="multiples of 16, found 24 and 32.*use 32"):
        build("sharpmask-resnet50", km=24)


def test_every_network_is_built_by_its_name() -> None:
    assert len(BUILDERS) == 10


class TinyTrunk(Trunk):
    """Four convolutions of stride 2: all that a new trunk needs."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.normalization = IMAGENET
        self.channels = {2: width, 4: 2 * width, 8: 3 * width, 16: 5 * width}
        widths = pairwise([3, *self.channels.values()])
        self.layers = nn.ModuleList(nn.Conv2d(*pair, 3, 2, padding=1) for pair in widths)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        features = {}
        for stride, layer in zip(self.channels, self.layers, strict=True):
            features[stride] = image = torch.relu(layer(image))
        return features


def test_a_new_trunk_takes_one_class_and_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, builder in on_trunk("tiny", TinyTrunk).items():
        monkeypatch.setitem(BUILDERS, name, builder)
    sizes: dict[str, int | str] = {"width": 3, "neck": 8, "vector": 16, "score_hidden": 8}
    deepmask = build("deepmask-tiny", **sizes).eval()
    sharpmask = build("sharpmask-tiny", km=16, **sizes).eval()
    assert isinstance(deepmask, DeepMask)
    assert isinstance(sharpmask, SharpMask)
    assert deepmask.trunk.channels[16] == 15
    with torch.inference_mode():
        scores, vectors = deepmask(torch.zeros(1, 3, 192, 208))
        assert (scores.shape, vectors.shape) == ((1, 1, 3, 4), (1, 16, 3, 4))
        assert sharpmask.patch_masks(torch.zeros(2, 3, 192, 192)).shape == (2, 160, 160)
    with pytest.raises(ModelError, match="no size 'depth'.*it takes width, neck, vector, score"):
        build("deepmask-tiny", depth=3)
    info = CascadeInfo(proposals="sharpmask-tiny", proposals_sizes={"km": 16, **sizes})
    save_checkpoint(tmp_path / "tiny.safetensors", Cascade(info=info, proposals=sharpmask))
    assert isinstance(load_checkpoint(tmp_path / "tiny.safetensors").proposals, SharpMask)
