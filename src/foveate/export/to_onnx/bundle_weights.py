# SPDX-License-Identifier: Apache-2.0
"""The PyTorch networks of a bundle, with the weights read back from its ONNX files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from foveate.bundle import Bundle
from foveate.errors import ModelError
from foveate.export.execution.sessions import Reference, check_networks
from foveate.export.execution.stage_model import CODES, CORRECTED, HALF, NETWORK
from foveate.export.execution.stages import cascade_stages
from foveate.export.execution.torch_engines import torch_functions
from foveate.export.passes import run_passes, truncate_towers
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    build_cascade,
    load_checkpoint,
    round_to_half,
)


def torch_reference(bundle: Bundle, checkpoint: Path | None = None) -> Reference:
    """Return the PyTorch networks of a bundle as a reference.

    The weights are those of a checkpoint, rounded to float16 as a bundle stores them, or by default
    those of the bundle itself.

    Raises:
        ModelError: The checkpoint has other networks, or the bundle cannot be read back.
    """
    if checkpoint is None:
        cascade = cascade_from_bundle(bundle)
    else:
        cascade = load_checkpoint(checkpoint)
        names = [name for name in (cascade.info.proposals, cascade.info.classifier) if name]
        check_networks(bundle, names, checkpoint)
        for network in filter(None, (cascade.proposals, cascade.classifier)):
            round_to_half(network)
    # For the other layout PyTorch may choose Winograd's convolution, whose own error (9e-6 of the
    # largest value on a large level) uses up the whole tolerance.
    functions = torch_functions(cascade, channels_last=True)
    stages = {stage.name: stage for stage in cascade_stages(cascade)}
    name = "PyTorch" if checkpoint is None else f"PyTorch with {checkpoint.name}"
    return Reference(name=name, functions=functions, model=lambda one: export_stage(stages[one]))


def cascade_from_bundle(bundle: Bundle) -> Cascade:
    """Build the networks of a bundle, modified as they were for its export.

    Raises:
        ModelError: The bundle does not name its networks, lacks a parameter, or has one of another
            size than its network.
    """
    # The exporter keeps the names of parameters, and stores the values exactly as they were before
    # the export, rounded to float16. INT8 layers come back with the rounded weights and the
    # corrected biases, and networks that `svd` or `optimize` changed come back changed.
    source = bundle.manifest.source
    if not source.networks:
        what = "the bundle does not name its networks"
        raise ModelError(what, file=bundle.root, remedy="export it again")
    proposals, *classifiers = source.networks
    info = CascadeInfo(
        proposals=proposals.name,
        proposals_sizes=proposals.sizes,
        classifier=classifiers[0].name if classifiers else None,
        classifier_sizes=classifiers[0].sizes if classifiers else {},
        class_names=bundle.manifest.class_names,
        mask_threshold=bundle.manifest.mask.threshold,
        mask_scoring="mask_scores"
        in {one.name for one in bundle.manifest.stages["refine"].outputs},
        top_k=bundle.manifest.select.top_k,
        window_nms_iou=bundle.manifest.select.window_nms_iou,
        proposal_nms_iou=bundle.manifest.select.proposal_nms_iou,
        training=bundle.manifest.provenance.get("training", {}),
    )
    classify = bundle.manifest.classify
    if classify is not None:
        info = replace(
            info,
            delta_mean=classify.delta_mean,
            delta_std=classify.delta_std,
            calibration=classify.calibration,
            class_nms_iou=classify.class_nms_iou,
        )
    cascade = build_cascade(info)
    if source.svd and cascade.classifier is not None:
        truncate_towers(cascade.classifier, source.svd)
    run_passes(cascade, source.optimize)
    _fill(cascade.proposals, bundle, "propose", "refine")
    if cascade.classifier is not None:
        _fill(cascade.classifier, bundle, "features", "classify")
    return cascade


def exact_cascade_from_bundle(bundle: Bundle) -> Cascade:
    """Build the networks that a bundle was exported from, if it has their exact weights.

    Raises:
        ModelError: As for ``cascade_from_bundle``; or some weights are INT8, or were changed by
            ``--svd`` or ``--optimize``.
    """
    source = bundle.manifest.source
    for option, found in (("optimize", source.optimize), ("svd", source.svd)):
        if found:
            raise ModelError(
                f"the bundle was exported with --{option} {','.join(str(one) for one in found)}, "
                "which does not keep the trained weights",
                file=bundle.root,
                remedy=f"start from the checkpoint, or from a bundle without --{option}",
            )
    manifest = bundle.manifest
    rounded = [stage for stage in manifest.networks if manifest.precision_of(stage) == "int8"]
    if rounded:
        raise ModelError(
            f"the weights of {', '.join(rounded)} are int8, which does not keep the trained weights",
            file=bundle.root,
            remedy="export from the checkpoint, or from a bundle in fp32 or fp16",
        )
    return cascade_from_bundle(bundle)


def _fill(network: nn.Module, bundle: Bundle, *stages: str) -> None:
    found: dict[str, Tensor] = {}
    for stage in stages:
        found |= _initializers(bundle, stage)
    state = network.state_dict()
    # A bundle that refines by SharpMask does not contain DeepMask's mask head.
    missing = [name for name in state if name not in found and not name.startswith("deepmask.mask")]
    if missing:
        what = f"the bundle lacks {len(missing)} parameters, the first is {missing[0]!r}"
        raise ModelError(what, file=bundle.root, remedy="export it again")
    for name in sorted(state.keys() & found.keys()):
        if found[name].numel() != state[name].numel():
            raise ModelError(
                f"expected {state[name].numel()} values of the parameter {name!r}, as "
                f"{type(network).__name__} has, found {found[name].numel()}",
                file=bundle.root,
                remedy="use the version of Foveate that exported the bundle",
            )
        # The exporter stores some parameters in another shape.
        state[name].copy_(found[name].reshape(state[name].shape))


def _initializers(bundle: Bundle, stage: str) -> dict[str, Tensor]:
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
        name = full_name.removesuffix(HALF).removesuffix(CORRECTED).removeprefix(NETWORK)
        tensors[name] = torch.from_numpy(values.astype(np.float32))
    return tensors
