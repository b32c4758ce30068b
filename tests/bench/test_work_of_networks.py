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


def stages_of(network: nn.Module, scored_above: float | None = None) -> list[Stage]:
    if isinstance(network, MultiPathNet):
        return detection_stages(network, EFFICIENTNET_LITE)
    assert isinstance(network, DeepMask | SharpMask)
    return proposal_stages(network, scored_above=scored_above)


def flops(stage: Stage) -> int:
    """Return the operations of a stage as it is exported: some convolutions differ from eager ones."""
    inputs = tuple(stage.inputs.values())
    exported = torch.export.export(stage.module.eval(), inputs).module()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        exported(*inputs)
    counts = counter.get_flop_counts()["Global"]
    # The weights of phases are products of constants, which the exporter folds.
    return sum(count for operation, count in counts.items() if operation != torch.ops.aten.mm)


def counted(stage: Stage, file: Path) -> int:
    shapes = {name: tuple(value.shape) for name, value in stage.inputs.items()}
    return count_work(file, [shapes]).operations


def test_the_shipped_files_have_the_operations_of_the_networks() -> None:
    mini = Bundle.open("mini")
    for spec in mini.manifest.source.networks:
        classes = {"classes": len(mini.manifest.class_names)} if "multipathnet" in spec.name else {}
        network = build(spec.name, **spec.sizes, **classes)
        for stage in stages_of(network, mini.manifest.mask.threshold):
            assert counted(stage, mini.stage_path(stage.name)) == flops(stage) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepmask-mini", *NARROW])
def test_an_exported_stage_has_the_operations_of_its_network(name: str, tmp_path: Path) -> None:
    for stage in stages_of(narrow(nn.Module, name)):
        file = tmp_path / f"{stage.name}.onnx"
        onnx.save(export_stage(stage), file)
        assert counted(stage, file) == flops(stage) > 0
