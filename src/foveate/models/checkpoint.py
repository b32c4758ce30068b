# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the networks of a cascade and their description in one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from foveate.bundle.schema import load_json, parse
from foveate.errors import ModelError
from foveate.models.build import build, first_misfit
from foveate.models.deepmask import STRIDE, DeepMask
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask, deepmask_of
from foveate.models.trunk import Trunk
from foveate.system.files import write_file
from foveate.system.regular_files import open_regular

FORMAT = "foveate-1"


@dataclass(frozen=True, kw_only=True)
class CascadeInfo:
    """The description of a cascade.

    Args:
        proposals: Name of the proposal network for ``models.build``, or ``None`` for a detector.
        proposals_sizes: Sizes of its builder.
        classifier: Name of the classifier, or ``None`` for proposals alone.
        classifier_sizes: Sizes of its builder, except for ``classes``.
        class_names: Names of the classes without background.
        delta_mean: Means of the box targets before normalization.
        delta_std: Standard deviations of the box targets before normalization.
        calibration: Coefficients (c0, c1, c2) of
            score = sigmoid(c0 + c1 logit(probability) + c2 objectness).
        mask_threshold: Logit above which a pixel belongs to the object.
        mask_scoring: Whether the objectness of a proposal also rates its mask, as
            ``models.mask_scoring`` does.
        top_k: Number of windows to refine.
        window_nms_iou: IoU with a better window above which a window is not refined.
        proposal_nms_iou: IoU with the box of a better mask above which a proposal is suppressed; 1
            suppresses none.
        class_nms_iou: IoU of boxes of a class above which the one of lower score is dropped.
        training: Free notes for the model card.
    """

    proposals: str | None = None
    proposals_sizes: Mapping[str, bool | int | str] = field(default_factory=dict)
    classifier: str | None = None
    classifier_sizes: Mapping[str, bool | int | str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    delta_mean: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    delta_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    calibration: tuple[float, float, float] = (0.0, 1.0, 0.0)
    mask_threshold: float = 0.0
    mask_scoring: bool = False
    top_k: int = 100
    window_nms_iou: float = 0.8
    proposal_nms_iou: float = 1.0
    class_nms_iou: float = 0.3
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """A proposal network, an optional classifier, and their description.

    Raises:
        ModelError: The classifier continues the trunk of another proposal network.
    """

    info: CascadeInfo
    proposals: DeepMask | SharpMask
    classifier: MultiPathNet | None = None

    def __post_init__(self) -> None:
        if self.classifier is not None:
            given = deepmask_of(self.proposals).trunk.channels
            needed = {
                stride: self.classifier.trunk.channels[stride]
                for stride in self.classifier.shared_strides
            }
            if not needed.items() <= given.items():
                what = (
                    f"{self.info.classifier} continues a trunk with maps of {needed} channels by "
                    f"stride, but that of {self.info.proposals} has {given}"
                )
                remedy = "join it to the proposal network that it was trained with"
                raise ModelError(what, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A classifier of boxes that come from elsewhere, and its description."""

    info: CascadeInfo
    classifier: MultiPathNet


def build_cascade(info: CascadeInfo) -> Cascade:
    """Build the networks of a description with random weights, in evaluation mode.

    Raises:
        ModelError: They are not a DeepMask or SharpMask and a MultiPathNet.
    """
    proposals = None if info.proposals is None else build(info.proposals, **info.proposals_sizes)
    if not isinstance(proposals, DeepMask | SharpMask):
        what = f"expected a proposal network, found {info.proposals!r}"
        raise ModelError(what, remedy="name a DeepMask or SharpMask")
    classifier = None if info.classifier is None else build_detector(info).classifier
    return Cascade(info=info, proposals=proposals.eval(), classifier=classifier)


def build_detector(info: CascadeInfo) -> Detector:
    """Build the classifier of a description with random weights, in evaluation mode.

    Raises:
        ModelError: It is not a MultiPathNet.
    """
    network = None
    if info.classifier is not None:
        sizes = {**info.classifier_sizes, "classes": len(info.class_names)}
        network = build(info.classifier, **sizes)
    if not isinstance(network, MultiPathNet):
        what = f"expected a classifier, found {info.classifier!r}"
        raise ModelError(what, remedy="name a MultiPathNet")
    return Detector(info=info, classifier=network.eval())


def join(proposals: Cascade, detector: Detector) -> Cascade:
    """Return one cascade of a proposal network and a detector that were trained separately.

    Its notes are those of the detector, with the origin of the weights of both trunks.
    """
    training = dict(detector.info.training)
    if trunks := {**proposals.info.training.get("trunks", {}), **training.get("trunks", {})}:
        training["trunks"] = trunks
    info = replace(
        detector.info,
        proposals=proposals.info.proposals,
        proposals_sizes=proposals.info.proposals_sizes,
        mask_threshold=proposals.info.mask_threshold,
        mask_scoring=proposals.info.mask_scoring,
        top_k=proposals.info.top_k,
        window_nms_iou=proposals.info.window_nms_iou,
        proposal_nms_iou=proposals.info.proposal_nms_iou,
        training=training,
    )
    return Cascade(info=info, proposals=proposals.proposals, classifier=detector.classifier)


def round_to_half(network: nn.Module) -> None:
    """Round each parameter of a network to float16 in place; it stays a float32 tensor."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())


def save_checkpoint(path: Path, networks: Cascade | Detector, *, half: bool = True) -> None:
    """Write a checkpoint; the networks stay as they are.

    Args:
        path: File to write; its directory is made if necessary.
        networks: Networks to write, with their description.
        half: Whether weights are written in float16, which rounds them, or in float32.

    Raises:
        InputError: The file cannot be written; a file of that name is kept.
    """
    tensors = {}
    for prefix, network in _networks(networks).items():
        for name, tensor in network.state_dict().items():
            stored = tensor.half() if half else tensor
            tensors[f"{prefix}.{name}"] = stored.contiguous()
    info, inputs = json.dumps(asdict(networks.info)), json.dumps(_describe(networks))
    metadata = {"format": FORMAT, "info": info, "inputs": inputs}
    write_file(path, safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: Path, detector: Path | None = None) -> Cascade:
    """Read the cascade of a checkpoint: networks in float32 and evaluation mode.

    Args:
        path: Checkpoint of a cascade, or of a proposal network alone.
        detector: Checkpoint of the detector that replaces its classifier, if any.

    Raises:
        ModelError: A file is missing, is not a checkpoint of Foveate, lacks the network that is
            needed, or has other weights than its networks.
    """
    info, inputs, tensors = _read(path)
    if info.proposals is None:
        what = f"expected a cascade, found the detector {info.classifier!r} alone"
        remedy = "pass it as the detector, with the checkpoint of a DeepMask or SharpMask"
        raise ModelError(what, file=path, remedy=remedy)
    # On the meta device nothing is drawn at random and no memory is taken for the weights that the
    # file replaces.
    with torch.device("meta"):
        cascade = build_cascade(info)
    _fill(cascade, inputs, tensors, path)
    return cascade if detector is None else join(cascade, load_detector(detector))


def load_detector(path: Path) -> Detector:
    """Read the classifier of a checkpoint, whether or not it has a proposal network.

    Raises:
        ModelError: As in ``load_checkpoint``, for the classifier.
    """
    info, inputs, tensors = _read(path)
    if info.classifier is None:
        what = f"expected a detector, found {info.proposals!r} alone"
        remedy = "pass the checkpoint of a MultiPathNet or Fast R-CNN"
        raise ModelError(what, file=path, remedy=remedy)
    with torch.device("meta"):
        detector = build_detector(info)
    _fill(detector, inputs, tensors, path)
    return detector


def _read(path: Path) -> tuple[CascadeInfo, dict[str, Any], dict[str, Tensor]]:
    """Return the description of the networks, that of their inputs, and the weights."""
    try:
        open_regular(path).close()  # safetensors would wait for the other end of a FIFO
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error
    if metadata.get("format") != FORMAT:
        what = f"expected a checkpoint of format {FORMAT!r}, found {metadata.get('format')!r}"
        raise ModelError(what, file=path, remedy="make one with `foveate train`")
    try:
        info = parse(CascadeInfo, load_json(metadata["info"]))
        inputs = parse(dict[str, Any], load_json(metadata["inputs"]))
    except (KeyError, ValueError) as error:
        what = f"the description of the networks cannot be read: {error}"
        remedy = "use the version of Foveate that wrote it"
        raise ModelError(what, file=path, remedy=remedy) from error
    return info, inputs, tensors


def _unreadable(path: Path, error: Exception) -> ModelError:
    what = f"the checkpoint cannot be read ({getattr(error, 'strerror', None) or error})"
    check = "check the path" if isinstance(error, OSError) else "copy it again"
    remedy = f"{check}, or make one with `foveate train`"
    if not isinstance(error, OSError):  # the file system would fail again
        with path.open("rb") as file:
            start = file.read(2)
        # The protocol of a bare pickle, or the archive in which `torch.save` puts one.
        if start in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"):
            what = "expected a safetensors checkpoint, found a pickle, which could run code"
            remedy = "make one with `foveate train`, or import weights by `foveate import-torch`"
        elif path.suffix == ".onnx":
            what = "expected a safetensors checkpoint, found an ONNX file"
            remedy = "pass the checkpoint that it was exported from, or its bundle"
    return ModelError(what, file=path, remedy=remedy)


def _fill(
    networks: Cascade | Detector, inputs: dict[str, Any], tensors: dict[str, Tensor], path: Path
) -> None:
    described = json.loads(json.dumps(_describe(networks)))
    for prefix, network in _networks(networks).items():
        if inputs.get(prefix) != described[prefix]:
            what = (
                f"the {prefix} were trained on {inputs.get(prefix)}, but the network of that "
                f"name takes {described[prefix]}"
            )
            raise ModelError(what, file=path, remedy="use the version of Foveate that wrote them")
        own = {
            name.removeprefix(f"{prefix}."): tensor.float()
            for name, tensor in tensors.items()
            if name.startswith(f"{prefix}.")
        }
        try:
            network.load_state_dict(own, assign=True)
        except RuntimeError as error:
            what = f"the weights do not fit {type(network).__name__}: {first_misfit(error)}"
            remedy = "use the version of Foveate that wrote them"
            raise ModelError(what, file=path, remedy=remedy) from error


def _networks(networks: Cascade | Detector) -> dict[str, nn.Module]:
    named: dict[str, nn.Module] = {}
    if isinstance(networks, Cascade):
        named["proposals"] = networks.proposals
    if networks.classifier is not None:
        named["classifier"] = networks.classifier
    return named


def _describe(networks: Cascade | Detector) -> dict[str, Any]:
    """Describe the inputs of each network, for readers that do not build it."""
    described: dict[str, Any] = {}
    if isinstance(networks, Cascade):
        deepmask = deepmask_of(networks.proposals)
        described["proposals"] = {
            "window": deepmask.window,
            "stride": STRIDE,
            "context": deepmask.context,
            "border": deepmask.border,
            "mask_side": networks.proposals.mask_side,
            "normalisation": asdict(deepmask.trunk.normalization),
        }
    classifier = networks.classifier
    if classifier is not None:
        described["classifier"] = {"strides": classifier.strides}
        if isinstance(classifier.trunk, Trunk):
            normalization = asdict(classifier.trunk.normalization)
            described["classifier"]["normalisation"] = normalization
        else:
            described["classifier"]["shared_strides"] = classifier.shared_strides
    return described
