# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the networks of a cascade in one safetensors file, with what they were made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate.models.build import build
from foveate.models.deepmask import STRIDE, DeepMask
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.system.files import open_regular, write_file

FORMAT = "foveate-1"


@dataclass(frozen=True, kw_only=True)
class CascadeInfo:
    """What a cascade was trained for, beside its weights.

    Attributes:
        proposals: name of the proposal network, for `models.build`, or None for a detector alone.
        proposals_sizes: what its builder takes beside.
        classifier: name of the classifier, or None for proposals alone.
        classifier_sizes: what its builder takes beside `classes`.
        class_names: of the classes, without background.
        delta_mean: mean of the box targets before normalisation.
        delta_std: their standard deviation.
        calibration: (c0, c1, c2): score = sigmoid(c0 + c1 logit(probability) + c2 objectness).
        mask_threshold: logit above which a pixel is the object's.
        training: free notes for the model card.
    """

    proposals: str | None = None
    proposals_sizes: Mapping[str, int | str] = field(default_factory=dict)
    classifier: str | None = None
    classifier_sizes: Mapping[str, int | str] = field(default_factory=dict)
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


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A classifier alone, which names the objects of boxes that come from elsewhere."""

    info: CascadeInfo
    classifier: MultiPathNet


def build_cascade(info: CascadeInfo) -> Cascade:
    """Build the networks that `info` names, their weights at random, in evaluation mode.

    Raises:
        ModelError: they are no DeepMask or SharpMask and no MultiPathNet.
    """
    if info.proposals is None:
        raise ModelError("nothing proposes", remedy="name a DeepMask or SharpMask")
    proposals = build(info.proposals, **info.proposals_sizes)
    if not isinstance(proposals, DeepMask | SharpMask):
        raise ModelError(
            f"{info.proposals!r} proposes nothing", remedy="name a DeepMask or SharpMask"
        )
    classifier = None if info.classifier is None else build_detector(info).classifier
    return Cascade(info=info, proposals=proposals.eval(), classifier=classifier)


def build_detector(info: CascadeInfo) -> Detector:
    """Build the classifier that `info` names, its weights at random, in evaluation mode.

    Raises:
        ModelError: it is no MultiPathNet.
    """
    if info.classifier is None:
        raise ModelError("nothing classifies", remedy="name a MultiPathNet")
    network = build(info.classifier, classes=len(info.class_names), **info.classifier_sizes)
    if not isinstance(network, MultiPathNet):
        raise ModelError(f"{info.classifier!r} is no classifier", remedy="name a MultiPathNet")
    return Detector(info=info, classifier=network.eval())


def join(proposals: Cascade, detector: Detector) -> Cascade:
    """Make one cascade of a proposal network and a detector that were made apart."""
    info = replace(
        detector.info,
        proposals=proposals.info.proposals,
        proposals_sizes=proposals.info.proposals_sizes,
        mask_threshold=proposals.info.mask_threshold,
    )
    return Cascade(info=info, proposals=proposals.proposals, classifier=detector.classifier)


def round_to_half(network: nn.Module) -> None:
    """Round every parameter to float16, kept as float32: what a bundle stores is what runs."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())


def save_checkpoint(path: Path, networks: Cascade | Detector, *, half: bool = True) -> None:
    """Write a checkpoint.

    Args:
        path: of the file; its folder is made if need be.
        networks: what is written.
        half: in float16; the networks are rounded in place, so that what goes on in memory is what
            was written. Otherwise in float32, as it is.

    Raises:
        InputError: it cannot be written; a file that was there stays.
    """
    tensors = {}
    for prefix, network in _networks(networks).items():
        if half:
            round_to_half(network)
        for name, tensor in network.state_dict().items():
            stored = tensor.half() if half else tensor
            tensors[f"{prefix}.{name}"] = stored.contiguous()
    metadata = {
        "format": FORMAT,
        "info": json.dumps(asdict(networks.info)),
        "inputs": json.dumps(_describe(networks)),
    }
    write_file(path, safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: Path, detector: Path | None = None) -> Cascade:
    """Read the cascade of a checkpoint: networks in float32 and evaluation mode.

    Args:
        path: of a cascade, or of a proposal network alone.
        detector: of the detector to `join` it with, in place of its own if it has one.

    Raises:
        ModelError: a file is missing, no checkpoint of Foveate, lacks the network that is asked
            for, or does not fit its networks.
    """
    info, file = _read(path)
    if info.proposals is None:
        raise ModelError(
            f"expected a cascade, found the detector {info.classifier!r} alone",
            file=path,
            remedy="give it as the detector beside the checkpoint of a DeepMask or SharpMask",
        )
    # On the meta device nothing is drawn at random, and no memory taken, for what is replaced.
    with torch.device("meta"):
        cascade = build_cascade(info)
    _fill(cascade, file, path)
    return cascade if detector is None else join(cascade, load_detector(detector))


def load_detector(path: Path) -> Detector:
    """Read the classifier of a checkpoint, whether or not it has a proposal network.

    Raises:
        ModelError: as `load_checkpoint`, for the classifier.
    """
    info, file = _read(path)
    if info.classifier is None:
        raise ModelError(
            f"expected a detector, found {info.proposals!r} alone",
            file=path,
            remedy="give the checkpoint of a MultiPathNet or Fast R-CNN",
        )
    with torch.device("meta"):
        detector = build_detector(info)
    _fill(detector, file, path)
    return detector


@dataclass(frozen=True, kw_only=True)
class _File:
    tensors: dict[str, Tensor]
    inputs: dict[str, Any] | None


def _read(path: Path) -> tuple[CascadeInfo, _File]:
    try:
        open_regular(path).close()  # safetensors would wait for the other end of a FIFO
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, safetensors.SafetensorError) as error:
        if _is_pickle(path):
            raise ModelError(
                "expected a safetensors checkpoint, found a pickle, which could run code",
                file=path,
                remedy="make one by `foveate train`, or import weights by `foveate import-torch`",
            ) from error
        if path.suffix == ".onnx":
            raise ModelError(
                "expected a safetensors checkpoint, found an ONNX file",
                file=path,
                remedy="give the checkpoint that it was exported from, or the bundle that it is of",
            ) from error
        raise ModelError(
            f"no checkpoint can be read ({error})",
            file=path,
            remedy="copy it again, or make one by `foveate train`",
        ) from error
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"expected a checkpoint of format {FORMAT!r}, found {metadata.get('format')!r}",
            file=path,
            remedy="make one by `foveate train`",
        )
    try:
        info = _parse_info(json.loads(metadata["info"]))
        inputs = json.loads(metadata.get("inputs", "null"))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the description of the networks cannot be read: {error}",
            file=path,
            remedy="use the version of Foveate that wrote it",
        ) from error
    return info, _File(tensors=tensors, inputs=inputs)


def _is_pickle(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        # The protocol of a bare pickle, and the archive that `torch.save` puts one in.
        return file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")


def _fill(networks: Cascade | Detector, file: _File, path: Path) -> None:
    described = json.loads(json.dumps(_describe(networks)))
    for prefix, network in _networks(networks).items():
        # Checkpoints of 0.1 do not describe what their networks take.
        if file.inputs is not None and file.inputs.get(prefix) != described[prefix]:
            raise ModelError(
                f"the {prefix} were trained on {file.inputs.get(prefix)}, the network that is "
                f"built takes {described[prefix]}",
                file=path,
                remedy="use the version of Foveate that wrote them",
            )
        own = {
            name.removeprefix(f"{prefix}."): tensor.float()
            for name, tensor in file.tensors.items()
            if name.startswith(f"{prefix}.")
        }
        try:
            network.load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise ModelError(
                f"the weights do not fit {type(network).__name__}: {first_misfit(error)}",
                file=path,
                remedy="use the version of Foveate that wrote them",
            ) from error


def first_misfit(error: RuntimeError) -> str:
    """The first of the weights that PyTorch could not load, which lists all of them in lines."""
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[min(1, len(lines) - 1)]


def _networks(networks: Cascade | Detector) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    if isinstance(networks, Cascade):
        found["proposals"] = networks.proposals
    if networks.classifier is not None:
        found["classifier"] = networks.classifier
    return found


def _describe(networks: Cascade | Detector) -> dict[str, Any]:
    """Say what inference has to know of each network, for readers that do not build it."""
    described: dict[str, Any] = {}
    if isinstance(networks, Cascade):
        proposals = networks.proposals
        sharpens = isinstance(proposals, SharpMask)
        deepmask = proposals.deepmask if isinstance(proposals, SharpMask) else proposals
        described["proposals"] = {
            "window": deepmask.window,
            "stride": STRIDE,
            "context": deepmask.context,
            "border": deepmask.border,
            "mask_side": deepmask.window if sharpens else deepmask.mask_side,
            "normalisation": asdict(deepmask.trunk.normalisation),
        }
    if networks.classifier is not None:
        described["classifier"] = {
            "strides": networks.classifier.strides,
            "normalisation": asdict(networks.classifier.trunk.normalisation),
        }
    return described


def _parse_info(content: Mapping[str, Any]) -> CascadeInfo:
    lists = ("class_names", "delta_mean", "delta_std", "calibration")
    return CascadeInfo(**{**content, **{name: tuple(content[name]) for name in lists}})
