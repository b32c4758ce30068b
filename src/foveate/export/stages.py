# SPDX-License-Identifier: Apache-2.0
"""What a stage of the cascade computes, and no more: the modules that export traces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate.models.checkpoint import Cascade
from foveate.models.deepmask import STRIDE, DeepMask
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SKIP_STRIDES, SharpMask

Axes = dict[int, str]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A module with the contract of its inputs and outputs.

    Attributes:
        name: the stage's name in the bundle.
        module: takes the inputs and gives the outputs in order.
        inputs: name -> a float32 example, of any size that the dynamic axes allow.
        dynamic: input -> axis -> name of the dimension that varies.
        multiples: dimension -> the number that it is always a multiple of.
        outputs: names.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    dynamic: dict[str, Axes]
    multiples: dict[str, int]
    outputs: tuple[str, ...]


class _SharpMaskPropose(nn.Module):
    def __init__(self, network: SharpMask):
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        scores, vectors, horizontals = self.network(picture)
        return scores, vectors, *horizontals


class _SharpMaskRefine(nn.Module):
    def __init__(self, network: SharpMask):
        super().__init__()
        self.network = network

    def forward(
        self,
        vectors: Tensor,
        horizontal_1: Tensor,
        horizontal_2: Tensor,
        horizontal_3: Tensor,
        horizontal_4: Tensor,
    ) -> Tensor:
        windows = (horizontal_1, horizontal_2, horizontal_3, horizontal_4)
        return self.network.refine(vectors, windows)


class _DeepMaskRefine(nn.Module):
    def __init__(self, network: DeepMask):
        super().__init__()
        self.network = network

    def forward(self, vectors: Tensor) -> Tensor:
        return self.network.masks(vectors)


class _Features(nn.Module):
    def __init__(self, network: MultiPathNet):
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.network.features(picture)
        return features[8], features[16], features[32]


class _Classify(nn.Module):
    def __init__(self, network: MultiPathNet):
        super().__init__()
        self.network = network

    def forward(
        self, map_8: Tensor, map_16: Tensor, map_32: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        probabilities, deltas = self.network({8: map_8, 16: map_16, 32: map_32}, boxes)
        return probabilities, deltas


def cascade_stages(cascade: Cascade) -> list[Stage]:
    """Split a cascade into its stages, in the order of the data."""
    stages = proposal_stages(cascade.proposals)
    if cascade.classifier is not None:
        stages += detection_stages(cascade.classifier)
    return stages


def proposal_stages(network: DeepMask | SharpMask) -> list[Stage]:
    """Split a proposal network into `propose` and `refine`."""
    deepmask = network.deepmask if isinstance(network, SharpMask) else network
    picture = torch.zeros(1, 3, deepmask.window + 2 * STRIDE, deepmask.window + 4 * STRIDE)
    propose = Stage(
        name="propose",
        module=_SharpMaskPropose(network) if isinstance(network, SharpMask) else deepmask,
        inputs={"picture": picture},
        dynamic={"picture": {2: "height", 3: "width"}},
        multiples={"height": STRIDE, "width": STRIDE},
        outputs=("scores", "vectors"),
    )
    vectors = torch.zeros(3, deepmask.embed.out_channels)
    if not isinstance(network, SharpMask):
        refine = Stage(
            name="refine",
            module=_DeepMaskRefine(network),
            inputs={"vectors": vectors},
            dynamic={"vectors": {0: "windows"}},
            multiples={},
            outputs=("logits",),
        )
        return [propose, refine]
    names = tuple(f"horizontal_{i + 1}" for i in range(len(SKIP_STRIDES)))
    propose = Stage(**{**vars(propose), "outputs": (*propose.outputs, *names)})
    horizontals = {
        name: torch.zeros(3, module.outputs, side, side)
        for name, module, side in zip(
            names, network.coarse_to_fine, (deepmask.window // s for s in SKIP_STRIDES), strict=True
        )
    }
    refine = Stage(
        name="refine",
        module=_SharpMaskRefine(network),
        inputs={"vectors": vectors, **horizontals},
        dynamic={name: {0: "windows"} for name in ("vectors", *names)},
        multiples={},
        outputs=("logits",),
    )
    return [propose, refine]


def detection_stages(network: MultiPathNet) -> list[Stage]:
    """Split MultiPathNet into `features` and `classify`."""
    picture = torch.zeros(1, 3, 128, 160)
    with torch.inference_mode():
        maps = network.features(picture)
    examples = {f"map_{stride}": torch.zeros(maps[stride].shape) for stride in (8, 16, 32)}
    features = Stage(
        name="features",
        module=_Features(network),
        inputs={"picture": picture},
        dynamic={"picture": {2: "height", 3: "width"}},
        multiples={"height": 32, "width": 32},
        outputs=tuple(examples),
    )
    classify = Stage(
        name="classify",
        module=_Classify(network),
        inputs={**examples, "boxes": torch.tensor([[8.0, 8.0, 90.0, 100.0]] * 3)},
        dynamic={
            **{name: {2: f"height_{name[4:]}", 3: f"width_{name[4:]}"} for name in examples},
            "boxes": {0: "boxes"},
        },
        multiples={},
        outputs=("probabilities", "deltas"),
    )
    return [features, classify]
