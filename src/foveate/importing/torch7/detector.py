# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN out of a Torch7 file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from foveate.errors import ModelError
from foveate.importing.found import Found, State
from foveate.importing.torch7.geometry import expect_pooling, padding_notes
from foveate.importing.torch7.layers import Layer, Walker, every, is_weighted, signature
from foveate.importing.torch7.resnet import (
    Block,
    block_convolutions,
    split_stages,
    stage_state,
    stem_state,
    take_blocks,
)
from foveate.importing.torch7.towers import DETECTOR, foveal_towers, tower_state
from foveate.importing.torch7.values import Node
from foveate.importing.torch7.weights import Weights
from foveate.models.vgg import VGG_16

RESNETS = {
    (2, 2, 2, 2, 2): "multipathnet-resnet18",
    (3, 3, 4, 6, 3): "multipathnet-resnet50",
}
"""Convolutions of a branch and blocks of each stage, to the network's name."""

VGG_16_CONVOLUTIONS = sum(VGG_16)

RESNET_BINS = 14
VGG_BINS = 7
"""Bins of ROI pooling on each axis."""


def find_detector(model: Node, walker: Walker, weights: Weights) -> Found:
    """Map a detector on a ResNet or on VGG-16.

    Args:
        model: ``nn.Sequential`` of features, ROI pooling, towers and heads.
        walker: Opens containers.
        weights: Copies weights.

    Raises:
        ModelError: It is of another architecture.
    """
    layers = walker.layers(model, "model")
    at = [index for index, layer in enumerate(layers) if is_weighted([layer])]
    first, last = (layers[at[0]], layers[at[-1]]) if at else (None, None)
    if first is None or last is None or first is last or {first.kind, last.kind} != {"fork"}:
        raise ModelError(
            "expected a detector: a fork with the features, layers of a region, a fork with the "
            f"heads, found {signature(layers)[:80]!r}",
            remedy=DETECTOR,
        )
    features, middle = first.branches[0], layers[at[0] + 1 : at[-1]]
    heads, classes = _heads_state(last, weights)
    if every(features, "sum"):
        found, side = _on_resnet(features, middle, weights), RESNET_BINS
    else:
        found, side = _on_vgg(features, middle, weights), VGG_BINS
    mean, std = _box_norm(layers, weights)
    return replace(
        found,
        sizes={**found.sizes, "classes": classes, "rounding": _rounding(layers, side)},
        state=found.state | heads,
        delta_mean=mean,
        delta_std=std,
    )


def _heads_state(fork: Layer, weights: Weights) -> tuple[State, int]:
    """Copy the class heads, one an integral threshold, and the box head.

    Returns:
        The state, and the number of classes without background.
    """
    shapes = [signature(branch) for branch in fork.branches]
    if shapes not in (["fork", "linear"], ["linear", "linear"]):
        raise ModelError(
            f"expected class heads and a box head in {fork.name}, found {shapes}", remedy=DETECTOR
        )
    (box,) = fork.branches[1]
    state: State = {}
    state["box_head.weight"], state["box_head.bias"] = weights.linear(box)
    class_heads = every(fork.branches[0], "linear")
    for index, head in enumerate(class_heads):
        prefix = f"class_heads.{index}."
        state[f"{prefix}weight"], state[f"{prefix}bias"] = weights.linear(head)
    return state, len(state["box_head.bias"]) // 4 - 1


def _box_norm(
    layers: Sequence[Layer], weights: Weights
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the box targets; without the layer, targets are not normalised."""
    found = every(layers, "boxnorm")
    if not found:
        return (0.0,) * 4, (1.0,) * 4
    mean, std = (weights.needed(found[0], name).flatten().tolist() for name in ("mean", "std"))
    if (len(mean), len(std)) != (4, 4):
        raise ModelError(
            f"expected 4 means and 4 deviations in {found[0].name}, "
            f"found {len(mean)} and {len(std)}",
            remedy=DETECTOR,
        )
    return tuple(mean), tuple(std)


def _rounding(layers: Sequence[Layer], side: int) -> str:
    """The rounding rule of ROI pooling, which is the same in all towers."""
    found = {
        (layer.whole("W"), layer.whole("H"), "v2" if layer.node["v2"] is True else "caffe")
        for layer in every(layers, "roi")
    }
    expected = [(side, side, "caffe"), (side, side, "v2")]
    if len(found) != 1 or not found <= {*expected}:
        raise ModelError(
            f"expected ROI pooling of one kind to {side}x{side}, found {sorted(found) or 'none'}",
            remedy=DETECTOR,
        )
    return found.pop()[2]


def _on_resnet(features: Sequence[Layer], middle: Sequence[Layer], weights: Weights) -> Found:
    stem = list(takewhile(lambda layer: layer.kind != "fork", features))
    trunk_blocks, rest = take_blocks(features[len(stem) :])
    last, behind = take_blocks([layer for layer in middle if layer.kind != "roi"])
    stages = [*split_stages(trunk_blocks), last]
    name = _resnet_name(stages)
    if rest or behind:
        raise ModelError(
            f"expected nothing behind the blocks, found {signature([*rest, *behind])!r}",
            remedy=DETECTOR,
        )
    after = any(block.affine for stage in stages for block in stage)
    state = stem_state(stem, "trunk.", weights)
    for number, stage in enumerate(stages, 1):
        prefix = "trunk." if number < len(stages) else "class_towers.0."
        state |= stage_state(stage, f"{prefix}layer{number}.", weights, after=after)
    convolutions = [stem[0], *(c for stage in stages for c in block_convolutions(stage))]
    return Found(
        name=name,
        sizes={"width": len(state["trunk.conv1.weight"]), "affine_after_addition": after},
        state=state,
        notes=padding_notes(convolutions, "zeros"),
    )


def _resnet_name(stages: Sequence[Sequence[Block]]) -> str:
    shapes = {len(block.branch) for stage in stages for block in stage}
    shape = (*sorted(shapes), *(len(stage) for stage in stages))
    if shape not in RESNETS:
        raise ModelError(
            "expected the blocks of ResNet-18 (2, 2, 2 and 2, of 2 convolutions) or of ResNet-50 "
            f"(3, 4, 6 and 3, of 3), found {[len(stage) for stage in stages]} of {sorted(shapes)}",
            remedy=DETECTOR,
        )
    return RESNETS[shape]


def _on_vgg(features: Sequence[Layer], middle: Sequence[Layer], weights: Weights) -> Found:
    convolutions = every(features, "conv")
    if len(convolutions) != VGG_16_CONVOLUTIONS:
        raise ModelError(
            f"expected the {VGG_16_CONVOLUTIONS} convolutions of VGG-16, found {len(convolutions)}",
            remedy=DETECTOR,
        )
    for pooling in every(features, "pool"):
        expect_pooling(pooling, side=2, stride=2, pad=0)
    state: State = {}
    for index, conv in zip(_vgg_indices(VGG_16), convolutions, strict=True):
        weight, bias = weights.biased(conv)
        state[f"trunk.features.{index}.weight"] = weight
        state[f"trunk.features.{index}.bias"] = bias
    width = len(state["trunk.features.0.weight"])
    notes = padding_notes(convolutions, "zeros")
    forks = [layer for layer in middle if is_weighted([layer]) and layer.kind == "fork"]
    if not forks:
        state |= tower_state("class_towers.0.", middle, weights, mixed=False)
        hidden = len(state["class_towers.0.embed.3.bias"])
        return Found(
            name="fast-rcnn-vgg16",
            sizes={"width": width, "hidden": hidden},
            state=state,
            notes=notes,
        )
    towers, tower_sizes = foveal_towers(forks, weights)
    return Found(
        name="multipathnet-vgg16",
        sizes={"width": width, **tower_sizes},
        state=state | towers,
        notes=notes,
    )


def _vgg_indices(depths: Sequence[int]) -> list[int]:
    """Positions of the convolutions in `VGG.features`: a ReLU behind each, poolings between."""
    indices, position = [], 0
    for depth in depths:
        indices += [position + 2 * step for step in range(depth)]
        position += 2 * depth + 1
    return indices
