# SPDX-License-Identifier: Apache-2.0
"""The stages of a cascade as PyTorch modules, which the export traces, and which PyTorch can run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from foveate.models.checkpoint import Cascade
from foveate.models.deepmask import STRIDE, DeepMask
from foveate.models.mask_scoring import mask_scores
from foveate.models.multipathnet import MultiPathNet
from foveate.models.paste_windows import PasteWindows
from foveate.models.sharpmask import SharpMask, deepmask_of
from foveate.models.trunk import Continuation, Normalization

Axes = dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A module with the names and shapes of its inputs and outputs.

    Args:
        name: Name of the stage.
        module: Module that takes the inputs in order and returns the outputs in order.
        inputs: Example of each input, of any size that the dynamic axes allow.
        dynamic: Names of the dimensions that vary, by input and axis; also of an output, if its
            shape follows from the value of an input.
        outputs: Names of the outputs.
        strides: Pixels of the image per cell, for each output that is a map.
        long_side: Upper bound of the sides, in pixels, of the bins of regions.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    dynamic: dict[str, Axes]
    outputs: tuple[str, ...]
    strides: Mapping[str, int] = field(default_factory=dict)
    long_side: int = 0


class _Part(nn.Module):
    """A part of a network; the names of its parameters begin with ``network.``."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network: Any = network


class _Propose(_Part):
    """A proposal network, with the maps of its trunk that a classifier shares."""

    def __init__(self, network: DeepMask | SharpMask, shared: tuple[int, ...]):
        super().__init__(network)
        self.shared = shared

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        deepmask = deepmask_of(self.network)
        features: dict[int, Tensor] = deepmask.trunk(image)
        outputs = [*deepmask.windows(features[STRIDE])]
        if isinstance(self.network, SharpMask):
            outputs += self.network.horizontals(features)
        return *outputs, *(features[stride] for stride in self.shared)


class _Refine(_Part):
    """The refinement of a proposal network, which also rates the masks if there is a threshold."""

    def __init__(self, network: DeepMask | SharpMask, scored_above: float | None):
        super().__init__(network)
        self.scored_above = scored_above

    def forward(self, *inputs: Tensor) -> Any:
        if self.scored_above is None:
            return self._logits(*inputs)
        *others, scores = inputs
        logits = self._logits(*others)
        return logits, mask_scores(logits, scores, self.scored_above)

    def _logits(self, vectors: Tensor, *horizontals: Tensor) -> Tensor:
        if isinstance(self.network, SharpMask):
            return self.network.refine(vectors, horizontals)
        logits: Tensor = self.network.masks(vectors)
        return logits


class _Features(_Part):
    """The trunk of the classifier, for an image that was normalized for the proposal network."""

    def __init__(self, network: MultiPathNet, given: Normalization):
        super().__init__(network)
        own = network.own_trunk.normalization
        self.swaps = own.order != given.order
        theirs, ours = (list(zip(one.mean, one.std, strict=True)) for one in (given, own))
        # ((x std + mean) - mean') / std' in one multiplication and one addition.
        channels = list(zip(theirs[::-1] if self.swaps else theirs, ours, strict=True))
        factor = [std / other_std for (_, std), (_, other_std) in channels]
        offset = [(mean - other) / std for (mean, _), (other, std) in channels]
        self.changes = factor != [1.0] * 3 or offset != [0.0] * 3
        self.register_buffer("factor", torch.tensor(factor)[:, None, None], persistent=False)
        self.register_buffer("offset", torch.tensor(offset)[:, None, None], persistent=False)
        self.factor: Tensor
        self.offset: Tensor

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if self.swaps:
            image = image.flip(1)
        if self.changes:
            image = image * self.factor + self.offset
        return tuple(self.network.features(image).values())


class _Continuation(_Part):
    """The maps that a classifier adds to those of the proposal network."""

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        source = self.network.trunk.source
        maps = self.network.trunk({source: features})
        return tuple(maps[stride] for stride in self.network.strides if stride > source)


class _Classify(_Part):
    def forward(self, *maps_and_boxes: Tensor) -> tuple[Tensor, Tensor]:
        *maps, boxes = maps_and_boxes
        features = dict(zip(self.network.strides, maps, strict=True))
        probabilities, deltas = self.network(features, boxes)
        return probabilities, deltas


def cascade_stages(cascade: Cascade, *, long_side: int = 1024) -> list[Stage]:
    """Return the stages of a cascade; ``long_side`` as in ``detection_stages``."""
    classifier = cascade.classifier
    shared = () if classifier is None else classifier.shared_strides
    threshold = cascade.info.mask_threshold if cascade.info.mask_scoring else None
    stages = proposal_stages(cascade.proposals, shared, scored_above=threshold)
    if classifier is not None:
        given = deepmask_of(cascade.proposals).trunk.normalization
        stages += detection_stages(classifier, given, long_side=long_side)
    return stages


def proposal_stages(
    network: DeepMask | SharpMask,
    shared: tuple[int, ...] = (),
    *,
    scored_above: float | None = None,
) -> list[Stage]:
    """Return the stages ``propose`` and ``refine`` of a proposal network.

    Args:
        network: Network in evaluation mode.
        shared: Strides of the maps of its trunk that a classifier reads.
        scored_above: Logit above which a pixel of a mask is foreground, if ``refine`` rates the
            masks; it then has the input ``scores`` and the output ``mask_scores``.
    """
    deepmask = deepmask_of(network)
    window = deepmask.window
    # Height and width differ, so that the trace does not identify the two dimensions.
    image = torch.zeros(1, 3, window + 2 * STRIDE, window + 4 * STRIDE)
    # Several rows, since the trace turns a dimension of length 1 into a constant.
    inputs = {"vectors": torch.zeros(3, deepmask.embed.out_channels)}
    strides: dict[str, int] = {}
    if isinstance(network, SharpMask):
        for module, stride in zip(network.coarse_to_fine, network.strides, strict=True):
            name, side = f"horizontal_{len(inputs)}", window // stride
            inputs[name] = torch.zeros(3, module.outputs, side, side)
            strides[name] = stride
    maps = {f"map_{stride}": stride for stride in shared}
    propose = Stage(
        name="propose",
        module=_Propose(network, shared),
        inputs={"image": image},
        dynamic={"image": {2: "height", 3: "width"}},
        outputs=("scores", "vectors", *strides, *maps),
        strides=strides | maps,
    )
    if scored_above is not None:
        inputs["scores"] = torch.zeros(3, 1)
    refine = Stage(
        name="refine",
        module=_Refine(network, scored_above),
        inputs=inputs,
        dynamic={name: {0: "windows"} for name in inputs},
        outputs=("logits",) if scored_above is None else ("logits", "mask_scores"),
    )
    return [propose, refine]


def paste_stage(mask_side: int, threshold: float) -> Stage:
    """Return the optional stage ``paste``, which turns masks of windows into bits of the image."""
    side = float(mask_side)
    return Stage(
        name="paste",
        module=PasteWindows(threshold),
        inputs={
            "logits": torch.zeros(3, mask_side, mask_side),
            "geometry": torch.tensor([[8.0, 8.0, side, side]] * 3),
            "size": torch.tensor([48, 64]),
        },
        dynamic={
            "logits": {0: "windows"},
            "geometry": {0: "windows"},
            "bits": {1: "image_height", 2: "image_words"},
        },
        outputs=("bits", "areas", "boxes"),
    )


def detection_stages(
    network: MultiPathNet, given: Normalization, *, long_side: int = 1024
) -> list[Stage]:
    """Return the stages ``features`` and ``classify`` of a MultiPathNet.

    Args:
        network: Network in evaluation mode.
        given: Normalization of the image that ``features`` receives, if it receives one.
        long_side: Upper bound of the longer side of that image, in pixels. The level that a
            classifier without a trunk of its own reads may be longer, but no bin of a region may;
            see ``longest_bin``.
    """
    features, maps = _features_stage(network, given)
    classify = Stage(
        name="classify",
        module=_Classify(network),
        inputs={**maps, "boxes": torch.tensor([[8.0, 8.0, 50.0, 60.0]] * 3)},
        dynamic={**{name: _map_axes(name) for name in maps}, "boxes": {0: "boxes"}},
        outputs=("probabilities", "deltas"),
        long_side=network.strides[-1] * ceil(long_side / network.strides[-1]),
    )
    return [features, classify]


def longest_bin(network: MultiPathNet, longest: int) -> int:
    """Return a bound of the sides, in pixels, of the bins of any box of an image.

    Args:
        network: Network that pools the regions of the box.
        longest: Longer side of the image as the network sees it, in pixels.
    """
    share = max(tower.pooling.region / tower.pooling.side for tower in network.towers)
    # Rounding to cells adds up to two to a region, and up to two to each of its bins.
    return ceil(share * longest) + 4 * network.strides[-1]


def _features_stage(network: MultiPathNet, given: Normalization) -> tuple[Stage, dict[str, Tensor]]:
    """Return the stage ``features``, and examples of the maps that the towers read, by name."""
    module: nn.Module
    if isinstance(network.trunk, Continuation):
        maps, name = _shared_maps(network, network.trunk), f"map_{network.trunk.source}"
        module, example, axes = _Continuation(network), maps[name], _map_axes(name)
    else:
        maps, name, last = {}, "image", network.strides[-1]
        module, axes = _Features(network, given), {2: "height", 3: "width"}
        example = torch.zeros(1, 3, 4 * last, 5 * last)
    strides = {f"map_{n}": n for n in network.strides if n not in network.shared_strides}
    with torch.inference_mode():
        shapes = [one.shape for one in module(example)]
    maps |= {name: torch.zeros(shape) for name, shape in zip(strides, shapes, strict=True)}
    stage = Stage(
        name="features",
        module=module,
        inputs={name: example},
        dynamic={name: axes},
        outputs=tuple(strides),
        strides=strides,
    )
    return stage, {f"map_{stride}": maps[f"map_{stride}"] for stride in network.strides}


def _shared_maps(network: MultiPathNet, trunk: Continuation) -> dict[str, Tensor]:
    """Return examples of the maps of a proposal network that a classifier reads, by name."""
    # An odd number of cells of the map that it continues, so that no trace takes it for even.
    last = network.strides[-1]
    rows, columns = (trunk.source * (side * last // trunk.source + 1) for side in (4, 5))
    return {
        f"map_{stride}": torch.zeros(1, trunk.channels[stride], rows // stride, columns // stride)
        for stride in network.shared_strides
    }


def _map_axes(name: str) -> Axes:
    """Return the names of the dimensions of a map that vary."""
    number = name.removeprefix("map_")
    return {2: f"height_{number}", 3: f"width_{number}"}
