# SPDX-License-Identifier: Apache-2.0
"""Every network exports, and computes the same in ONNX Runtime as in PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.samples.stages import random_inputs
from tests.samples.weights import rounded

from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.execution.stages import cascade_stages
from foveate.export.to_onnx.onnx_graph import TOLERANCE, stage_errors
from foveate.models.checkpoint import CascadeInfo, build_cascade

CLASSES = ("cat", "cup", "rocket")
NETWORKS: dict[str, tuple[CascadeInfo, int]] = {
    "deepmask-resnet50": (
        CascadeInfo(
            proposals="deepmask-resnet50",
            proposals_sizes={"width": 8, "neck": 16, "vector": 32, "score_hidden": 16},
        ),
        160,
    ),
    "sharpmask-resnet50": (
        CascadeInfo(
            proposals="sharpmask-resnet50",
            proposals_sizes={
                "width": 8,
                "neck": 16,
                "vector": 32,
                "score_hidden": 16,
                "form": "paper",
            },
            top_k=7,
        ),
        160,
    ),
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
    "multipathnet-resnet18": (
        CascadeInfo(
            proposals="deepmask-mini",
            classifier="multipathnet-resnet18",
            classifier_sizes={"width": 8},
            class_names=CLASSES,
        ),
        160,
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
    "fast-rcnn-vgg16": (
        CascadeInfo(
            proposals="deepmask-mini",
            classifier="fast-rcnn-vgg16",
            classifier_sizes={"width": 4, "hidden": 16},
            class_names=CLASSES,
        ),
        160,
    ),
}


SLOW = ("multipathnet-resnet50",)  # multipathnet-resnet18 has the same parts


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS],
)
def test_every_network_exports_and_agrees_with_pytorch(name: str, tmp_path: Path) -> None:
    info, window = NETWORKS[name]
    torch.manual_seed(0)
    found = rounded(build_cascade(info))
    options = ExportOptions(name=name, short_side=192, long_side=256)
    bundle = export_bundle(found, tmp_path / "bundle", options)
    assert bundle.manifest.windows.size == window
    assert bundle.manifest.select.top_k == info.top_k
    for stage in cascade_stages(found, long_side=256):
        inputs = random_inputs(stage, 256, 240, 4)
        errors = stage_errors(stage, bundle.stage_path(stage.name), inputs)
        assert max(errors.values()) <= TOLERANCE, errors
