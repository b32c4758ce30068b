# SPDX-License-Identifier: Apache-2.0
"""Truncated singular value decomposition of towers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.samples.stages import random_inputs
from tests.samples.weights import rounded
from torch import nn
from typer.testing import CliRunner

from foveate.bundle import Bundle
from foveate.cli._app import build_app
from foveate.errors import OptionError
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.execution.stages import cascade_stages
from foveate.export.passes import truncate_towers
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.export.to_onnx.onnx_graph import TOLERANCE, stage_errors
from foveate.models.build import build
from foveate.models.checkpoint import Cascade, CascadeInfo, build_cascade
from foveate.models.multipathnet import MultiPathNet
from foveate.models.networks import multipathnet_vgg16

MINI = CascadeInfo(proposals="deepmask-mini", classifier="multipathnet-mini", class_names=("cat",))


@pytest.fixture(scope="module")
def vgg() -> MultiPathNet:
    torch.manual_seed(0)
    return multipathnet_vgg16(classes=3, width=4, mixed=8, hidden=16).eval()


def fc6(network: MultiPathNet) -> nn.Module:
    """Return the first linear layer of the first tower, or the two layers in its place."""
    return network.towers[0].get_submodule("embed.0")


def test_factored_towers_are_the_best_approximation_of_their_rank(vgg: MultiPathNet) -> None:
    torch.manual_seed(0)
    other = multipathnet_vgg16(classes=3, width=4, mixed=8, hidden=16).eval()
    truncate_towers(other, (5, 3))
    for tower, factored in zip(vgg.towers, other.towers, strict=True):
        for name, rank in (("embed.0", 5), ("embed.3", 3)):
            assert_is_best_of_rank(rank, tower.get_submodule(name), factored.get_submodule(name))


def assert_is_best_of_rank(rank: int, layer: nn.Module, factored: nn.Module) -> None:
    assert isinstance(layer, nn.Linear)
    first, second = factored.children()
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    assert first.out_features == rank
    assert first.bias is None
    assert torch.equal(second.bias, layer.bias)
    weight = layer.weight.detach().double()
    error = torch.linalg.norm(second.weight.double() @ first.weight.double() - weight)
    # Eckart and Young: what is left are the singular values that were cut off.
    left = torch.linalg.svdvals(weight)[rank:].square().sum().sqrt()
    torch.testing.assert_close(error, left, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        ((5,), "--svd has 1 rank, and each tower has 2 linear layers: pass one rank per layer"),
        ((0, 3), "the rank 0 for a layer of 392 inputs and 16 outputs, expected 1 to 15"),
        ((5, 8), "the rank 8 for a layer of 16 inputs and 16 outputs, expected 1 to 7"),
    ],
)
def test_impossible_ranks_are_refused(vgg: MultiPathNet, ranks: tuple[int, ...], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        truncate_towers(vgg, ranks)
    assert isinstance(fc6(vgg), nn.Linear)


def test_towers_without_linear_layers_are_refused() -> None:
    network = build("multipathnet-resnet18", classes=3, width=8)
    assert isinstance(network, MultiPathNet)
    with pytest.raises(OptionError, match="the towers of this network have none"):
        truncate_towers(network, (5,))


def test_proposals_alone_have_no_towers_to_factor(tmp_path: Path) -> None:
    cascade = build_cascade(CascadeInfo(proposals="deepmask-mini"))
    with pytest.raises(OptionError, match="the checkpoint has no classifier: export without --svd"):
        export_bundle(cascade, tmp_path / "bundle", ExportOptions(svd=(5,)))


@pytest.fixture(scope="module")
def factored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cascade, Bundle]:
    torch.manual_seed(0)
    cascade = build_cascade(MINI)
    path = tmp_path_factory.mktemp("svd") / "bundle"
    bundle = export_bundle(cascade, path, ExportOptions(svd=(24,)))
    assert cascade.classifier is not None
    truncate_towers(cascade.classifier, (24,))
    return rounded(cascade), bundle


def test_the_manifest_names_the_ranks(factored: tuple[Cascade, Bundle]) -> None:
    assert factored[1].manifest.source.svd == (24,)


def test_a_factored_network_exports_and_agrees_with_pytorch(
    factored: tuple[Cascade, Bundle],
) -> None:
    cascade, bundle = factored
    (stage,) = (one for one in cascade_stages(cascade) if one.name == "classify")
    inputs = random_inputs(stage, 224, 256, 5)
    errors = stage_errors(stage, bundle.stage_path("classify"), inputs)
    assert max(errors.values()) <= TOLERANCE, errors


def test_a_factored_bundle_gives_its_networks_back(factored: tuple[Cascade, Bundle]) -> None:
    cascade, bundle = factored
    again = cascade_from_bundle(bundle).classifier
    assert again is not None
    assert cascade.classifier is not None
    for name, value in cascade.classifier.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_ranks_that_are_no_numbers_are_wrong_usage(tmp_path: Path) -> None:
    arguments = ["export", "x.safetensors", "--output", str(tmp_path / "b"), "--svd", "a,2"]
    result = CliRunner().invoke(build_app("export"), arguments)
    assert result.exit_code == 2
    assert "expected whole numbers such as 1024,256" in result.output
