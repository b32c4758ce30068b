# SPDX-License-Identifier: Apache-2.0
"""The counted operations of every network, compared with the counter of PyTorch."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from tests.samples.networks import NARROW, narrow
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from foveate.bench.work import count_work
from foveate.bundle import Bundle
from foveate.export.execution.stages import Stage, detection_stages, proposal_stages
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models import DeepMask, MultiPathNet, SharpMask, build
from foveate.models.trunk import EFFICIENTNET_LITE


def stages_of(network: nn.Module) -> list[Stage]:
    if isinstance(network, MultiPathNet):
        return detection_stages(network, EFFICIENTNET_LITE)
    assert isinstance(network, DeepMask | SharpMask)
    return proposal_stages(network)


def flops(stage: Stage) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        stage.module.eval()(*stage.inputs.values())
    return int(counter.get_total_flops())


def counted(stage: Stage, file: Path) -> int:
    shapes = {name: tuple(value.shape) for name, value in stage.inputs.items()}
    return count_work(file, [shapes]).operations


@pytest.mark.parametrize("name", ["sharpmask-mini", "multipathnet-mini"])
def test_the_shipped_files_have_the_operations_of_the_networks(name: str) -> None:
    mini = Bundle.open("mini")
    classes = {"classes": len(mini.manifest.class_names)} if "multipathnet" in name else {}
    for stage in stages_of(build(name, **classes)):
        assert counted(stage, mini.stage_path(stage.name)) == flops(stage) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepmask-mini", *NARROW])
def test_an_exported_stage_has_the_operations_of_its_network(name: str, tmp_path: Path) -> None:
    for stage in stages_of(narrow(nn.Module, name)):
        file = tmp_path / f"{stage.name}.onnx"
        onnx.save(export_stage(stage), file)
        assert counted(stage, file) == flops(stage) > 0
