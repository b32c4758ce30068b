# SPDX-License-Identifier: Apache-2.0
"""Networks at the start of training: weights of a checkpoint, or random ones."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from foveate.errors import ModelError
from foveate.importing.pytorch import read_state
from foveate.models.build import build, first_misfit
from foveate.models.checkpoint import Cascade, load_checkpoint, load_detector
from foveate.models.deepmask import DeepMask
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.models.timm_trunk import PREFIX, TimmTrunk
from foveate.models.trunk import Trunk
from foveate.system.regular_files import file_digest
from foveate.training.resume import weights_digest

Sizes = Mapping[str, int | str]
Notes = Mapping[str, Any]
PRETRAINED, RANDOM = "pretrained", "random"

# Random weights are as published: the heads of a detector are N(0, 0.01) and N(0, 0.001), set by
# its builder; all others are uniform in +-1 / sqrt(fan-in), the default of Torch7 and PyTorch. The
# trunk, and fc6 and fc7 of VGG, come from ImageNet by a checkpoint to start from.


def proposal_network(
    name: str, sizes: Sizes, *, deepmask: Path | None = None, initial: Path | None = None
) -> tuple[DeepMask | SharpMask, Sizes, Notes]:
    """Build a DeepMask or SharpMask with the sizes and weights of the checkpoints to start from.

    They are ``initial``, of the same network, and ``deepmask``, of the one that a SharpMask
    refines. ``sizes`` are further arguments of the builder; the network is returned with all of
    them, and with the notes on the training of the checkpoint.

    Raises:
        ModelError: A checkpoint cannot be read, or is of another network.
    """
    starts: list[tuple[Path, Cascade]] = []
    notes: Notes = {}
    for file, wanted in ((deepmask, name.replace("sharpmask", "deepmask")), (initial, name)):
        if file is not None:
            cascade = load_checkpoint(file)
            _require_name(cascade.info.proposals, wanted, file)
            starts.append((file, cascade))
            sizes = {**cascade.info.proposals_sizes, **sizes}
            notes = cascade.info.training
    network = build(name, **sizes)
    assert isinstance(network, DeepMask | SharpMask)
    for file, cascade in starts:
        whole: nn.Module = network
        if isinstance(network, SharpMask) and isinstance(cascade.proposals, DeepMask):
            whole = network.deepmask
        _start_from(whole, cascade.proposals, file)
    return network, sizes, notes


def detector_network(
    name: str, classes: int, sizes: Sizes, *, initial: Path | None = None
) -> tuple[MultiPathNet, Sizes, Notes]:
    """Build a detector with the sizes and weights of the checkpoint that it starts from.

    That is ``initial``, of the same network with the same number of classes, background excluded.
    ``sizes`` are further arguments of the builder; the network is returned with all of them, and
    with the notes on the training of the checkpoint.

    Raises:
        ModelError: The checkpoint cannot be read, or is of another network.
    """
    detector = None if initial is None else load_detector(initial)
    if detector is not None and initial is not None:
        _require_name(detector.info.classifier, name, initial)
        sizes = {**detector.info.classifier_sizes, **sizes}
    network = build(name, classes=classes, **sizes)
    assert isinstance(network, MultiPathNet)
    if detector is not None and initial is not None:
        _start_from(network, detector.classifier, initial)
    return network, sizes, {} if detector is None else detector.info.training


def _require_name(found: str | None, wanted: str, file: Path) -> None:
    if found != wanted:
        raise ModelError(
            f"expected the checkpoint of a {wanted}, found {found}",
            file=file,
            remedy="train one with `foveate train --network`, or import one",
        )


def _start_from(network: nn.Module, other: nn.Module, file: Path) -> None:
    try:
        network.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"the weights do not fit {type(network).__name__}: {first_misfit(error)}",
            file=file,
            remedy="pass a checkpoint of the same network with the same classes",
        ) from error


def start_trunk(trunk: Trunk, weights: str | None, notes: Notes, part: str) -> dict[str, Any]:
    """Load weights into a trunk of timm, in place, and return a note on them for the checkpoint.

    Args:
        trunk: Trunk with random weights, or with those of a checkpoint.
        weights: ``pretrained`` for those that timm fetches, ``random`` for those that the trunk
            has, or the path of a state dict of the whole model: .safetensors, or .pth with tensors
            only. ``None`` if the trunk is not of timm, or a checkpoint has its weights.
        notes: Notes of that checkpoint.
        part: ``proposals`` or ``classifier``, whose trunk it is.

    Returns:
        As ``trunks``, by ``part``, the name of the trunk, the version of timm, and the origin of the
        weights with the SHA-256 of their file, or of the tensors if timm fetched them.

    Raises:
        ModelError: The weights cannot be fetched or read, or are of another model.
    """
    if weights is None:
        return {"trunks": notes["trunks"]} if "trunks" in notes else {}
    assert isinstance(trunk, TimmTrunk)
    record = {"name": f"{PREFIX}{trunk.name}", "timm": metadata.version("timm"), "weights": weights}
    if weights == PRETRAINED:
        _load(trunk, pretrained=True)
        known = ("hf_hub_id", "url", "license")
        record |= {key: trunk.pretrained_cfg[key] for key in known if key in trunk.pretrained_cfg}
        record["tensors_sha256"] = weights_digest(trunk)
    elif weights != RANDOM:
        file = Path(weights)
        try:
            _load(trunk, state=read_state(file))
        except ModelError as error:
            raise ModelError(error.what, file=file, remedy=error.remedy) from error
        record |= {"weights": file.name, "sha256": file_digest(file)}
    return {"trunks": {part: record}}


def _load(trunk: TimmTrunk, **source: Any) -> None:
    # Built again, since batch norm was frozen after its weights were read.
    loaded = TimmTrunk(trunk.name, last_stride=trunk.last_stride, **source)
    trunk.load_state_dict(loaded.state_dict())
