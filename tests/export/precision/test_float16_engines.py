# SPDX-License-Identifier: Apache-2.0
"""Strongly typed float16 engines of every stage of the full-size networks, for five GPUs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from tests.samples.compiling import ARCHS, build_fixed, needs_rtx

from foveate.export.execution.stages import cascade_stages
from foveate.export.precision.float16 import to_float16
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models.checkpoint import Cascade, CascadeInfo, build_cascade, round_to_half

pytestmark = pytest.mark.slow

PROPOSALS = ("deepmask-resnet50", "sharpmask-resnet50", "deepmask-vgg")
DETECTORS = (
    "multipathnet-resnet18",
    "multipathnet-resnet50",
    "fast-rcnn-vgg16",
    "multipathnet-vgg16",
)
STAGES = [(name, stage) for name in PROPOSALS for stage in ("propose", "refine")]
STAGES += [(name, stage) for name in DETECTORS for stage in ("features", "classify")]
LENGTHS = {"height": 640, "width": 800, "windows": 64, "boxes": 64}
LENGTHS |= {f"height_{stride}": 640 // stride for stride in (4, 8, 16, 32)}
LENGTHS |= {f"width_{stride}": 800 // stride for stride in (4, 8, 16, 32)}


def cascade_of(name: str) -> Cascade:
    """Return a cascade with this network and the random weights of a new training."""
    torch.manual_seed(0)
    if name in PROPOSALS:
        return build_cascade(CascadeInfo(proposals=name))
    classes = ("cat", "cup", "rocket")
    info = CascadeInfo(proposals="deepmask-mini", classifier=name, class_names=classes)
    return build_cascade(info)


@needs_rtx
@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_a_float16_stage_of_full_size_builds_strongly_typed(
    name: str, stage: str, tmp_path: Path
) -> None:
    cascade = cascade_of(name)
    for network in (cascade.proposals, cascade.classifier):
        if network is not None:
            round_to_half(network)
    (chosen,) = (one for one in cascade_stages(cascade) if one.name == stage)
    file = tmp_path / f"{stage}.onnx"
    onnx.save(to_float16(export_stage(chosen)), file)
    plan = build_fixed(file, stage, LENGTHS, *ARCHS)
    assert plan > 0.9 * file.stat().st_size  # the weights, as halves, and kernels
