# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the networks of a cascade in one safetensors file, with what they were made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from foveate.errors import ModelError
from foveate.models.build import build
from foveate.models.deepmask import DeepMask
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask

FORMAT = "foveate-1"


@dataclass(frozen=True, kw_only=True)
class CascadeInfo:
    """What a cascade was trained for, beside its weights.

    Attributes:
        proposals: name of the proposal network, for `models.build`.
        classifier: name of the classifier, or None for proposals alone.
        class_names: of the classes, without background.
        delta_mean: mean of the box targets before normalisation.
        delta_std: their standard deviation.
        calibration: (c0, c1, c2): score = sigmoid(c0 + c1 logit(probability) + c2 objectness).
        mask_threshold: logit above which a pixel is the object's.
        training: free notes for the model card.
    """

    proposals: str
    classifier: str | None = None
    class_names: tuple[str, ...] = ()
    delta_mean: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    delta_std: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    calibration: tuple[float, ...] = (0.0, 1.0, 0.0)
    mask_threshold: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Networks and their description."""

    info: CascadeInfo
    proposals: DeepMask | SharpMask
    classifier: MultiPathNet | None = None


def build_cascade(info: CascadeInfo) -> Cascade:
    """Build the networks that `info` names, their weights at random, in evaluation mode."""
    proposals = build(info.proposals)
    if not isinstance(proposals, DeepMask | SharpMask):
        raise ModelError(
            f"{info.proposals!r} proposes nothing", remedy="name a DeepMask or SharpMask"
        )
    classifier = None
    if info.classifier is not None:
        network = build(info.classifier, classes=len(info.class_names))
        if not isinstance(network, MultiPathNet):
            raise ModelError(f"{info.classifier!r} is no classifier", remedy="name a MultiPathNet")
        classifier = network.eval()
    return Cascade(info=info, proposals=proposals.eval(), classifier=classifier)


def round_to_half(network: nn.Module) -> None:
    """Round every parameter to float16, kept as float32: what a bundle stores is what runs."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())


def save_checkpoint(path: Path, cascade: Cascade) -> None:
    """Write a checkpoint in float16, aside and renamed.

    The networks are rounded in place, so that what goes on in memory is what was written.
    """
    tensors = {}
    for prefix, network in _networks(cascade).items():
        round_to_half(network)
        for name, tensor in network.state_dict().items():
            tensors[f"{prefix}.{name}"] = tensor.half().contiguous()
    metadata = {"format": FORMAT, "info": json.dumps(asdict(cascade.info))}
    aside = path.with_name(path.name + ".partial")
    safetensors.torch.save_file(tensors, aside, metadata)
    aside.replace(path)


def load_checkpoint(path: Path) -> Cascade:
    """Read a checkpoint: networks in float32 and evaluation mode.

    Raises:
        ModelError: the file is missing, no checkpoint of Foveate, or does not fit its networks.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            "no checkpoint can be read", file=path, remedy="make one by `foveate train`"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"expected a checkpoint of format {FORMAT!r}, found {metadata.get('format')!r}",
            file=path,
            remedy="make one by `foveate train`",
        )
    cascade = build_cascade(_parse_info(json.loads(metadata["info"])))
    for prefix, network in _networks(cascade).items():
        own = {
            name.removeprefix(f"{prefix}."): tensor.float()
            for name, tensor in tensors.items()
            if name.startswith(f"{prefix}.")
        }
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise ModelError(
                f"the weights do not fit {type(network).__name__}: {error}",
                file=path,
                remedy="use the version of Foveate that wrote them",
            ) from error
    return cascade


def _networks(cascade: Cascade) -> dict[str, nn.Module]:
    networks: dict[str, nn.Module] = {"proposals": cascade.proposals}
    if cascade.classifier is not None:
        networks["classifier"] = cascade.classifier
    return networks


def _parse_info(content: Mapping[str, Any]) -> CascadeInfo:
    lists = ("class_names", "delta_mean", "delta_std", "calibration")
    return CascadeInfo(**{**content, **{name: tuple(content[name]) for name in lists}})
