# SPDX-License-Identifier: Apache-2.0
"""Models of timm as trunks: measured strides, frozen batch norm, weights of a file, refusals.

Models whose names begin with ``test_`` are timm's own for tests, of 80,000 to 400,000 parameters.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.samples.timm_models import import_timm
from torch import nn

from foveate.errors import MissingExtraError, ModelError
from foveate.models import DeepMask, MultiPathNet, SharpMask, build
from foveate.models.checkpoint import Cascade, CascadeInfo, load_checkpoint, save_checkpoint
from foveate.models.timm_trunk import TimmTrunk

timm = import_timm()

NARROW: dict[str, int | str] = {"neck": 8, "vector": 16, "score_hidden": 16}


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", {2: 64, 4: 64, 8: 128, 16: 256, 32: 512}),
        ("convnext_atto", {4: 40, 8: 80, 16: 160, 32: 320}),
        ("mobilenetv3_small_050", {2: 16, 4: 8, 8: 16, 16: 24, 32: 288}),
        ("test_vit", {16: 64}),
    ],
)
def test_strides_and_channels_are_measured(name: str, channels: dict[int, int]) -> None:
    trunk = TimmTrunk(name, last_stride=32)
    assert trunk.channels == channels
    with torch.inference_mode():
        maps = trunk(torch.zeros(1, 3, 96, 64))
    shapes = {stride: tuple(one.shape[1:]) for stride, one in maps.items()}
    assert shapes == {s: (count, 96 // s, 64 // s) for s, count in channels.items()}


def test_layers_after_the_last_stride_are_not_built() -> None:
    names = TimmTrunk("test_resnet", last_stride=16).state_dict()
    assert any(".layer3." in name for name in names)
    assert not any(".layer4." in name for name in names)


def test_the_last_of_several_maps_of_a_stride_is_taken() -> None:
    names = TimmTrunk("test_vit", last_stride=16).state_dict()  # six blocks, all of stride 16
    assert sum(name.endswith("qkv.weight") for name in names) == 6


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "tf_mobilenetv3_small_minimal_100"]
)
def test_frozen_batch_norm_and_fixed_padding_compute_the_same(name: str, tmp_path: Path) -> None:
    whole = model_with_statistics(name)
    trunk = TimmTrunk(name, last_stride=32, state=whole.state_dict()).train()
    assert not any(isinstance(one, nn.BatchNorm2d) for one in trunk.modules())
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = whole.forward_intermediates(image, intermediates_only=True)[-1]
        found = trunk(image)[32]
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def model_with_statistics(name: str) -> Any:
    """A whole model in evaluation mode, whose batch norm is not the identity."""
    torch.manual_seed(0)
    model = timm.create_model(name)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
    return model.eval()


def test_sharpmask_refines_from_the_maps_that_there_are() -> None:
    network = build("sharpmask-timm:test_convnext", km=16, ks=16, **NARROW)
    assert isinstance(network, SharpMask)
    assert network.strides == (16, 8, 4)
    assert [one.upsample.scale_factor for one in network.coarse_to_fine] == [2, 2, 4]
    horizontals = [torch.zeros(2, n, side, side) for n, side in ((8, 10), (4, 20), (2, 40))]
    assert network.refine(torch.zeros(2, 16), horizontals).shape == (2, 160, 160)


def test_multipathnet_reads_the_three_coarsest_maps() -> None:
    network = build("multipathnet-timm:test_convnext", classes=2, mixed=4, hidden=8)
    assert isinstance(network, MultiPathNet)
    assert network.strides == (8, 16, 32)
    assert [one.pooling.strides for one in network.towers] == [
        (32, 16, 8),
        (32, 16),
        (32, 16),
        (32,),
        (32, 16, 8),
    ]


def test_a_checkpoint_is_read_back_without_pretrained_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("deepmask-timm:test_efficientnet", **NARROW)
    assert isinstance(network, DeepMask)
    info = CascadeInfo(proposals="deepmask-timm:test_efficientnet", proposals_sizes=NARROW)
    file = tmp_path / "network.safetensors"
    save_checkpoint(file, Cascade(info=info, proposals=network), half=False)
    read = load_checkpoint(file).proposals.state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in network.state_dict().items())
    assert {tensor.device.type for tensor in read.values()} == {"cpu"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deepmask-timm:resnet81", r"timm .* has no model 'resnet81': use resnet\d+"),
        ("deepmask-timm:resnet18.a1_in1kk", "has no model .*: use resnet18.a1_in1k or "),
        ("deepmask-timm:hf-hub:owner/model", "has no model 'hf-hub:owner/model'"),
        ("deepmask-timm:", "no network is named 'deepmask-timm:'"),
        ("fast-rcnn-timm:resnet18", "no network is named 'fast-rcnn-timm:resnet18'"),
        ("deepmask-timm:test_vit3", "takes no images of 160 x 256 pixels .*: use a convolutional"),
        ("deepmask-timm:test_mambaout", "a map of stride 16, found strides none: maps of 64 x 16"),
        ("sharpmask-timm:test_vit", "maps of strides 8, 4 and 2, and the trunk has 16: use Deep"),
        ("multipathnet-timm:test_vit", "three maps, and the trunk has those of strides 16"),
    ],
)
def test_an_unsuitable_trunk_is_refused(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(name)


def test_weights_of_another_model_are_refused() -> None:
    state = timm.create_model("resnet34").state_dict()
    with pytest.raises(
        ModelError, match="expected no such weights for layer1.2.conv1.weight, found"
    ):
        TimmTrunk("resnet18", last_stride=16, state=state)


def test_weights_that_cannot_be_fetched_are_reported() -> None:
    expected = "weights of timm:darknet17 cannot be fetched .*: check the connection, or pass"
    with pytest.raises(ModelError, match=expected):  # timm has none
        TimmTrunk("darknet17", last_stride=16, pretrained=True)


def test_a_missing_timm_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'foveate\[timm\]'"):
        build("deepmask-timm:resnet18")


def test_a_torchvision_for_another_torch_is_named() -> None:
    code = "from foveate.models import build; build('deepmask-timm:test_resnet')"
    command = [sys.executable, "-P", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        pytest.skip("needs a torchvision that does not fit torch")
    expected = "timm cannot be imported (operator torchvision::nms does not exist): install the"
    assert expected in run.stderr
