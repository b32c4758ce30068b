# SPDX-License-Identifier: Apache-2.0
"""What a bundle is compared with: PyTorch, or another bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from foveate.bundle import Bundle
from foveate.errors import ModelError
from foveate.export.engines.stage_model import load_stage
from foveate.export.execution.sessions import Function, session_function


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a bundle is compared with.

    Attributes:
        name: in words, for messages.
        functions: stage -> what it should compute.
        model: gives the float32 ONNX model of a stage, layer by layer the same.
    """

    name: str
    functions: Mapping[str, Function]
    model: Callable[[str], onnx.ModelProto]


def torch_reference(bundle: Bundle, checkpoint: Path | None = None) -> Reference:
    """Compare with PyTorch.

    Args:
        bundle: whose weights are read back where no checkpoint is given.
        checkpoint: its weights are rounded to float16, as a bundle stores them.

    Raises:
        ModelError: the checkpoint is of another network, or the bundle cannot be read back.
    """
    # Here, so that a comparison of two bundles needs no PyTorch.
    from foveate.export.execution.bundle_weights import cascade_from_bundle  # noqa: PLC0415 - see above
    from foveate.export.execution.torch_engine import torch_functions  # noqa: PLC0415 - see above
    from foveate.export.to_onnx.onnx_graph import export_stage  # noqa: PLC0415 - see above
    from foveate.export.to_onnx.stages import cascade_stages  # noqa: PLC0415 - see above
    from foveate.models.checkpoint import load_checkpoint, round_to_half  # noqa: PLC0415 - see above

    if checkpoint is None:
        cascade = cascade_from_bundle(bundle)
    else:
        cascade = load_checkpoint(checkpoint)
        _check_networks(
            bundle,
            [name for name in (cascade.info.proposals, cascade.info.classifier) if name],
            checkpoint,
        )
        round_to_half(cascade.proposals)
        if cascade.classifier is not None:
            round_to_half(cascade.classifier)
    # Channel-last: for the other layout PyTorch may choose Winograd's convolution, whose own error
    # (9e-6 of the largest value on a large level) is all that the tolerance allows.
    functions = torch_functions(cascade, channels_last=True)
    stages = {stage.name: stage for stage in cascade_stages(cascade)}
    name = "PyTorch" if checkpoint is None else f"PyTorch with {checkpoint.name}"
    return Reference(
        name=name, functions=functions, model=lambda stage: export_stage(stages[stage])
    )


def bundle_reference(bundle: Bundle, other: Bundle) -> Reference:
    """Compare with another bundle of the same networks, such as the float32 one, on ONNX Runtime.

    Raises:
        ModelError: it is of other networks.
    """
    _check_networks(bundle, [one.name for one in other.manifest.source.networks], other.root)

    def model(stage: str) -> onnx.ModelProto:
        return load_stage(other.stage_path(stage), stage, other.manifest.stages[stage])

    return Reference(
        name=f"the bundle {other.root.name!r}",
        functions={
            stage: session_function(other.stage_path(stage)) for stage in other.manifest.networks
        },
        model=model,
    )


def _check_networks(bundle: Bundle, found: list[str], file: Path) -> None:
    expected = [one.name for one in bundle.manifest.source.networks]
    if found != expected:
        raise ModelError(
            f"expected the networks of the bundle, {', '.join(expected) or 'which it does not name'}"
            f", found {', '.join(found) or 'none'}",
            file=file,
            remedy="give the checkpoint or bundle that it was made of",
        )
