# SPDX-License-Identifier: Apache-2.0
"""The PyTorch networks of a bundle, their weights read back from its ONNX files.

The exporter keeps the names of parameters, and a bundle stores them exactly (float16, as they were
rounded before the export), so a bundle is a checkpoint too. Of INT8 layers it has the rounded
weights and the biases that were corrected for them: what the file means, not what was trained. The
same holds for what `--svd` and `--optimize` made of the networks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from foveate.bundle import Bundle
from foveate.errors import ModelError
from foveate.export.passes.run import run_passes
from foveate.export.passes.svd import truncate_towers
from foveate.export.precision.quantise import CODES, CORRECTED
from foveate.models.checkpoint import Cascade, CascadeInfo, build_cascade

_PROPOSAL_STAGES = ("propose", "refine")
_CLASSIFIER_STAGES = ("features", "classify")


def cascade_from_bundle(bundle: Bundle) -> Cascade:
    """Build the networks that a bundle holds, changed as they were for its export.

    Raises:
        ModelError: the bundle does not say what it was made of, or lacks a parameter.
    """
    source = bundle.manifest.source
    if not source.networks:
        raise ModelError(
            "the bundle does not name its networks", file=bundle.root, remedy="export it again"
        )
    proposals, *classifiers = source.networks
    info = CascadeInfo(
        proposals=proposals.name,
        proposals_sizes=proposals.sizes,
        classifier=classifiers[0].name if classifiers else None,
        classifier_sizes=classifiers[0].sizes if classifiers else {},
        class_names=bundle.manifest.class_names,
        mask_threshold=bundle.manifest.mask.threshold,
        training=bundle.manifest.provenance.get("training", {}),
    )
    classify = bundle.manifest.classify
    if classify is not None:
        info = replace(
            info,
            delta_mean=classify.delta_mean,
            delta_std=classify.delta_std,
            calibration=classify.calibration,
        )
    cascade = build_cascade(info)
    if source.svd and cascade.classifier is not None:
        truncate_towers(cascade.classifier, source.svd)
    run_passes(cascade, source.optimize)
    _fill(cascade.proposals, bundle, _PROPOSAL_STAGES)
    if cascade.classifier is not None:
        _fill(cascade.classifier, bundle, _CLASSIFIER_STAGES)
    return cascade


def exact_cascade_from_bundle(bundle: Bundle) -> Cascade:
    """Build the networks that a bundle was exported from, if it holds their weights exactly.

    Raises:
        ModelError: as `cascade_from_bundle`, or some of the weights are INT8, or were changed by
            `--svd` or `--optimize`.
    """
    source = bundle.manifest.source
    for option, found in (("optimize", source.optimize), ("svd", source.svd)):
        if found:
            raise ModelError(
                f"the bundle was exported with --{option} {','.join(str(one) for one in found)}, "
                "from which the trained weights cannot be recovered",
                file=bundle.root,
                remedy=f"start from the checkpoint, or from a bundle without --{option}",
            )
    rounded = [
        stage for stage in bundle.manifest.networks if bundle.manifest.precision_of(stage) == "int8"
    ]
    if rounded:
        raise ModelError(
            f"the weights of {', '.join(rounded)} are int8, from which the trained weights cannot "
            "be recovered",
            file=bundle.root,
            remedy="export from the checkpoint, or from a bundle in fp32 or fp16",
        )
    return cascade_from_bundle(bundle)


def _fill(network: nn.Module, bundle: Bundle, stages: tuple[str, ...]) -> None:
    found: dict[str, Tensor] = {}
    for stage in stages:
        found |= _initialisers(bundle, stage)
    state = network.state_dict()
    # DeepMask's mask head is no part of a bundle that refines by SharpMask.
    missing = [name for name in state if name not in found and not name.startswith("deepmask.mask")]
    if missing:
        raise ModelError(
            f"the bundle lacks {len(missing)} parameters, the first is {missing[0]!r}",
            file=bundle.root,
            remedy="export it again",
        )
    for name, parameter in state.items():
        if name in found:
            parameter.copy_(found[name].reshape(parameter.shape))


def _initialisers(bundle: Bundle, stage: str) -> dict[str, Tensor]:
    model = onnx.load(bundle.stage_path(stage))
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            codes, scales = (stored.pop(name) for name in node.input[:2])
            (axis,) = (one.i for one in node.attribute if one.name == "axis")
            shape = [-1 if index == axis else 1 for index in range(codes.ndim)]
            name = node.input[0].removesuffix(CODES)
            stored[name] = codes.astype(np.float32) * scales.reshape(shape)
    tensors = {}
    for full_name, values in stored.items():
        name = full_name.removesuffix("_half").removesuffix(CORRECTED).removeprefix("network.")
        tensors[name] = torch.from_numpy(values.astype(np.float32))
    return tensors
