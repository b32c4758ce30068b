# SPDX-License-Identifier: Apache-2.0
"""The weights that an importer read, the network that they fill, and its checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from foveate.errors import ModelError
from foveate.models.build import build
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    Detector,
    join,
    load_checkpoint,
    save_checkpoint,
)
from foveate.models.deepmask import DeepMask
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.system.regular_files import file_digest

Size = int | str
State = dict[str, torch.Tensor]

# The original code takes pixels with a probability above 0.2 on COCO.
MASK_THRESHOLD = math.log(0.2 / 0.8)

# fmt: off
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)
"""The 80 classes of COCO, by ascending category id."""

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
"""The 20 classes of Pascal VOC, by name."""
# fmt: on


@dataclass(frozen=True, kw_only=True)
class ImportedWeights:
    """The weights of a network of another program.

    Args:
        name: Name of the network for ``models.build``.
        sizes: Sizes of its builder that the file implies.
        state: State dict of the network.
        ignored: Number of each kind of part of the file that was left out.
        notes: Notes for the user, one sentence each.
        delta_mean: Means of the box targets, if the file has them.
        delta_std: Standard deviations of the box targets, if the file has them.
    """

    name: str
    sizes: Mapping[str, Size]
    state: State
    ignored: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    delta_mean: tuple[float, float, float, float] | None = None
    delta_std: tuple[float, float, float, float] | None = None

    def build(self) -> nn.Module:
        """Build the network with these weights, in evaluation mode.

        Raises:
            ModelError: Weights are missing, superfluous, of other shapes, integers, or not finite.
        """
        # On the meta device the sizes of a damaged file allocate nothing.
        try:
            with torch.device("meta"):
                network = build(self.name, **self.sizes)
        except RuntimeError as error:
            what = f"expected sizes of a {self.name}, found {self.sizes}"
            raise ModelError(what, remedy="the file is damaged: download it again") from error
        expected = network.state_dict()
        for key in {**expected, **self.state}:
            both = (expected, self.state)
            shapes = [tuple(state[key].shape) if key in state else None for state in both]
            if shapes[0] != shapes[1]:
                what = f"expected {key} of shape {shapes[0]} in a {self.name}, found {shapes[1]}"
                remedy = "import a network of the sizes that its builder can make"
                raise ModelError(what, remedy=remedy)
            if not self.state[key].is_floating_point():
                what = f"expected floating-point numbers in {key}, found {self.state[key].dtype}"
                raise ModelError(what, remedy="import the weights before they are quantized")
            if not self.state[key].isfinite().all():
                what = f"expected finite numbers in {key}, found NaN or infinity"
                raise ModelError(what, remedy="the file is damaged: download it again")
        network.load_state_dict(self.state, assign=True)
        return network.eval()


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters; frozen affine maps are buffers and do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def save_imported(
    weights: ImportedWeights,
    network: nn.Module,
    output: Path,
    *,
    source: Path,
    proposals: Path | None = None,
    names: tuple[str, ...] | None = None,
) -> Cascade | Detector:
    """Write a network as a checkpoint in float32, so that no number changes.

    Args:
        weights: Imported weights.
        network: Network that ``weights.build`` made.
        output: Checkpoint to write, a .safetensors file.
        source: File of the weights; its name and SHA-256 are recorded.
        proposals: For a detector, the checkpoint of the DeepMask or SharpMask to join it with; it
            is written alone if ``None``.
        names: Names of the classes of a detector without background; by default those of COCO or
            Pascal VOC if there are 80 or 20 classes.

    Raises:
        ModelError: The parts of the network do not fit together.
    """
    origin = {"imported from": source.name, "sha256": file_digest(source)}
    made: Cascade | Detector
    if isinstance(network, MultiPathNet):
        info = replace(_detector_info(weights, network.classes, names), training=origin)
        made = Detector(info=info, classifier=network)
        if proposals is not None:
            made = join(load_checkpoint(proposals), made)
    else:
        assert isinstance(network, DeepMask | SharpMask)
        if proposals is not None or names is not None:
            what = f"expected a detector, found {weights.name}"
            remedy = "omit the proposal network and the class names"
            raise ModelError(what, file=source, remedy=remedy)
        info = CascadeInfo(proposals=weights.name, proposals_sizes=dict(weights.sizes))
        info = replace(info, mask_threshold=MASK_THRESHOLD, training=origin)
        made = Cascade(info=info, proposals=network)
    save_checkpoint(output, made, half=False)
    return made


def _detector_info(
    weights: ImportedWeights, classes: int, names: tuple[str, ...] | None
) -> CascadeInfo:
    sizes = {name: size for name, size in weights.sizes.items() if name != "classes"}
    names = names or class_names(classes)
    if len(names) != classes:
        what = f"expected names for {classes} classes, found {len(names)}"
        raise ModelError(what, remedy="write one name per line, without background")
    info = CascadeInfo(classifier=weights.name, classifier_sizes=sizes, class_names=names)
    if weights.delta_mean is None or weights.delta_std is None:
        return info
    return replace(info, delta_mean=weights.delta_mean, delta_std=weights.delta_std)


def class_names(count: int) -> tuple[str, ...]:
    """Return the names of COCO for 80 classes, of Pascal VOC for 20, and "class N" for others."""
    known = {len(COCO): COCO, len(VOC): VOC}
    return known.get(count) or tuple(f"class {index}" for index in range(1, count + 1))
