# SPDX-License-Identifier: Apache-2.0
"""Every network exports, computes the same in ONNX Runtime as in PyTorch, and is read back."""

from __future__ import annotations

import pytest
import torch
from tests.samples.stages import random_inputs
from tests.samples.weights import assert_same_weights, rounded
from torch import nn

from foveate.bundle import Bundle
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.execution.stages import cascade_stages, detection_stages
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.export.to_onnx.onnx_graph import TOLERANCE, export_stage, stage_errors
from foveate.models import MultiPathNet, build
from foveate.models.checkpoint import Cascade, CascadeInfo, build_cascade
from foveate.models.trunk import EFFICIENTNET_LITE

CLASSES = ("cat", "cup", "rocket")
# The form of the paper is that of ``sharpmask-mini``; see test_export.py.
SHARPMASK = CascadeInfo(
    proposals="sharpmask-resnet50",
    proposals_sizes={"width": 8, "neck": 16, "vector": 32, "score_hidden": 16},
    classifier="multipathnet-resnet18",
    classifier_sizes={"width": 8},
    class_names=CLASSES,
    top_k=7,
)
# A trunk is most of an export, so each is in one cascade only. That of ``deepmask-resnet50`` is the
# same as that of ``sharpmask-resnet50``, whose proposals are those of DeepMask.
NETWORKS: dict[str, tuple[CascadeInfo, int]] = {
    "sharpmask-resnet50 and multipathnet-resnet18": (SHARPMASK, 160),
    "deepmask-vgg and multipathnet-vgg16": (
        CascadeInfo(
            proposals="deepmask-vgg",
            proposals_sizes={"width": 4, "neck": 8, "vector": 16, "score_hidden": 16},
            classifier="multipathnet-vgg16",
            classifier_sizes={"width": 4, "mixed": 8, "hidden": 16},
            class_names=CLASSES,
        ),
        224,
    ),
    "multipathnet-resnet50": (
        CascadeInfo(
            proposals="deepmask-mini",
            classifier="multipathnet-resnet50",
            classifier_sizes={"width": 8},
            class_names=CLASSES,
        ),
        160,
    ),
}


SLOW = ("multipathnet-resnet50",)  # multipathnet-resnet18 has the same parts


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS
    ],
)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Cascade, Bundle]:
    """Return the name of a cascade, the cascade, and its bundle."""
    name = request.param
    torch.manual_seed(0)
    cascade = rounded(build_cascade(NETWORKS[name][0]))
    for network in filter(None, (cascade.proposals, cascade.classifier)):
        _vary_normalization(network)
    options = ExportOptions(name=name, short_side=192, long_side=256)
    return name, cascade, export_bundle(cascade, tmp_path_factory.mktemp("b") / "bundle", options)


def _vary_normalization(network: nn.Module) -> None:
    """Change two thirds of the batch norms, so that some constants are equal or have no effect."""
    for number, (name, value) in enumerate(network.named_buffers()):
        if number % 3 and name.endswith(("scale", "shift")):
            value.copy_(torch.rand_like(value) + 0.5)


def test_every_network_exports_and_agrees_with_pytorch(
    exported: tuple[str, Cascade, Bundle],
) -> None:
    name, cascade, bundle = exported
    info, window = NETWORKS[name]
    assert bundle.manifest.windows.size == window
    assert bundle.manifest.select.top_k == info.top_k
    for stage in cascade_stages(cascade, long_side=256):
        inputs = random_inputs(stage, 256, 240, 4)
        errors = stage_errors(stage, bundle.stage_path(stage.name), inputs)
        assert max(errors.values()) <= TOLERANCE, errors


def test_a_bundle_gives_back_what_the_exporter_folds(exported: tuple[str, Cascade, Bundle]) -> None:
    _, cascade, bundle = exported
    assert_same_weights(cascade, cascade_from_bundle(bundle))


def test_fast_rcnn_agrees_with_pytorch_behind_proposals_of_another_normalization() -> None:
    torch.manual_seed(0)
    network = build("fast-rcnn-vgg16", classes=len(CLASSES), width=4, hidden=16).eval()
    assert isinstance(network, MultiPathNet)
    for stage in detection_stages(network, EFFICIENTNET_LITE, long_side=256):
        errors = stage_errors(stage, export_stage(stage), random_inputs(stage, 256, 240, 4))
        assert max(errors.values()) <= TOLERANCE, errors
