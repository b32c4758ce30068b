# SPDX-License-Identifier: Apache-2.0
"""Networks on trunks of timm agree with PyTorch in ONNX Runtime, and are read back from the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from onnx import numpy_helper
from tests.samples.paths import CAT
from tests.samples.timm_models import import_timm
from torch import nn

from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.checks.record import check_record
from foveate.export.checks.verification import measure
from foveate.export.execution.stages import proposal_stages
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle, torch_reference
from foveate.export.to_onnx.onnx_graph import check_stage, export_stage
from foveate.models.checkpoint import Cascade, CascadeInfo, build_cascade, round_to_half

import_timm()

SMALL = ExportOptions(scales=(0.5, 1.0), max_side=192, top_k=8, short_side=96, long_side=128)


def cascade(model: str) -> Cascade:
    torch.manual_seed(0)
    return build_cascade(
        CascadeInfo(
            proposals=f"sharpmask-timm:{model}",
            proposals_sizes={"neck": 8, "vector": 16, "score_hidden": 16, "km": 16, "ks": 16},
            classifier=f"multipathnet-timm:{model}",
            classifier_sizes={"mixed": 8, "hidden": 16},
            class_names=("disc", "square"),
        )
    )


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet"])
def test_propose_agrees_with_pytorch(model: str) -> None:
    proposals = cascade(model).proposals
    round_to_half(proposals)
    propose, _ = proposal_stages(proposals)
    check_stage(propose, export_stage(propose))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_a_bundle_agrees_with_pytorch_and_is_read_back(model: str, tmp_path: Path) -> None:
    exported = cascade(model)
    bundle = export_bundle(exported, tmp_path / "bundle", SMALL)  # compares each stage
    names = [network.name for network in bundle.manifest.source.networks]
    assert names == [f"sharpmask-timm:{model}", f"multipathnet-timm:{model}"]
    read = cascade_from_bundle(bundle)
    for network, other in (
        (exported.proposals, read.proposals),
        (exported.classifier, read.classifier),
    ):
        assert network is not None
        assert other is not None
        state = other.state_dict()
        for name, tensor in network.state_dict().items():
            if not name.startswith("deepmask.mask."):
                assert torch.allclose(state[name], tensor, rtol=1e-3, atol=1e-6), name
    found = measure(bundle, torch_reference(bundle), [CAT], score_threshold=0.0)
    check_record(found)
    # Masks of random weights may all be empty, and then nothing is classified.
    assert {"propose", "refine", "features"} <= found.images[0].stages.keys()


def test_the_weights_of_linear_layers_of_maps_are_stored_once(tmp_path: Path) -> None:
    propose, _ = proposal_stages(cascade("test_convnext2").proposals)
    linear = {
        f"{name}.weight": module.weight
        for name, module in propose.module.named_modules()
        if isinstance(module, nn.Linear) and "trunk" in name
    }
    assert len(linear) == 6
    model = export_stage(propose)
    sizes = [numpy_helper.to_array(one).size for one in model.graph.initializer]
    tensors = {**dict(propose.module.named_parameters()), **dict(propose.module.named_buffers())}
    assert sum(sizes) < 1.01 * sum(tensor.numel() for tensor in tensors.values())
    (transposed, *_) = [node for node in model.graph.node if node.op_type == "Transpose"]
    assert transposed.input[0] in linear
