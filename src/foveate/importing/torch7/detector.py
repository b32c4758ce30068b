# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN from a Torch7 file."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from foveate.importing.imported_weights import ImportedWeights, Size, State
from foveate.importing.torch7.layers import (
    Layer,
    Walker,
    every,
    expect,
    expect_pooling,
    is_weighted,
    padding_notes,
    signature,
)
from foveate.importing.torch7.resnet import (
    Block,
    block_convolutions,
    resnet_state,
    split_stages,
    take_blocks,
)
from foveate.importing.torch7.values import Node, Value, unknown
from foveate.importing.torch7.weights import WeightReader
from foveate.models.multipathnet import L2_SCALE, SKIP_FACTORS
from foveate.models.networks import BOX_REGION, FOVEA
from foveate.models.vgg import VGG_16

Four = tuple[float, float, float, float]

# Convolutions of a branch, then blocks of each stage.
RESNETS = {(2, 2, 2, 2, 2): "multipathnet-resnet18", (3, 3, 4, 6, 3): "multipathnet-resnet50"}

# Bins of ROI pooling on each axis.
RESNET_BINS = 14
VGG_BINS = 7

FACTORS = (1.0, *SKIP_FACTORS.values())
"""Factors of conv5, conv4 and conv3 in a network that does not normalize them."""


def detector_weights(model: Node, walker: Walker, reader: WeightReader) -> ImportedWeights:
    """Map an ``nn.Sequential`` of features on a ResNet or VGG-16, ROI pooling, towers and heads."""
    layers = walker.layers(model, "model")
    at = [index for index, layer in enumerate(layers) if is_weighted([layer])]
    if len(at) < 2 or {layers[at[0]].kind, layers[at[-1]].kind} != {"fork"}:
        raise unknown(
            "a detector: a fork with the features, layers of a region, a fork with the heads",
            f"{signature(layers)[:80]!r}",
        )
    features, middle = layers[at[0]].branches[0], layers[at[0] + 1 : at[-1]]
    heads, classes = _heads_state(layers[at[-1]], reader)
    if every(features, "sum"):
        detector, side = _on_resnet(features, middle, reader), RESNET_BINS
    else:
        detector, side = _on_vgg(features, middle, reader), VGG_BINS
    mean, std = _box_norm(layers, reader)
    return replace(
        detector,
        sizes={**detector.sizes, "classes": classes, "rounding": _rounding(layers, side)},
        state=detector.state | heads,
        delta_mean=mean,
        delta_std=std,
    )


def _heads_state(fork: Layer, reader: WeightReader) -> tuple[State, int]:
    """Return the class heads, one per IoU threshold, the box head, and the number of classes."""
    shapes = [signature(branch) for branch in fork.branches]
    if shapes not in (["fork", "linear"], ["linear", "linear"]):
        raise unknown(f"class heads and a box head in {fork.name}", shapes)
    class_heads = every(fork.branches[0], "linear")
    named = {f"class_heads.{index}": head for index, head in enumerate(class_heads)}
    state = reader.linears({"box_head": fork.branches[1][0], **named})
    return state, len(state["box_head.bias"]) // 4 - 1  # one is background


def _box_norm(layers: Sequence[Layer], reader: WeightReader) -> tuple[Four, Four]:
    """Return mean and deviation of the box targets."""
    norms = every(layers, "boxnorm")
    if not norms:  # targets were not normalized
        return (0.0,) * 4, (1.0,) * 4
    mean, std = (reader.required(norms[0], name).flatten().tolist() for name in ("mean", "std"))
    if (len(mean), len(std)) != (4, 4):
        raise unknown(f"4 means and 4 deviations in {norms[0].name}", f"{len(mean)} and {len(std)}")
    return tuple(mean), tuple(std)


def _rounding(layers: Sequence[Layer], side: int) -> str:
    """Return the rounding rule of ROI pooling, which is the same in all towers."""
    found = {
        (layer.whole("W"), layer.whole("H"), "v2" if layer.node["v2"] is True else "caffe")
        for layer in every(layers, "roi")
    }
    expected = [(side, side, "caffe"), (side, side, "v2")]
    if len(found) != 1 or not found <= {*expected}:
        raise unknown(f"ROI pooling of one kind to {side}x{side}", sorted(found) or "none")
    return found.pop()[2]


def _on_resnet(
    features: Sequence[Layer], middle: Sequence[Layer], reader: WeightReader
) -> ImportedWeights:
    stem = list(takewhile(lambda layer: layer.kind != "fork", features))
    trunk_blocks, rest = take_blocks(features[len(stem) :])
    last, after_last = take_blocks([layer for layer in middle if layer.kind != "roi"])
    stages = [*split_stages(trunk_blocks), last]
    name = _resnet_name(stages)
    if rest or after_last:
        raise unknown("nothing after the blocks", f"{signature([*rest, *after_last])!r}")
    prefixes = (*(f"trunk.layer{number}." for number in (1, 2, 3)), "class_towers.0.layer4.")
    state, after = resnet_state(stem, dict(zip(prefixes, stages, strict=True)), reader)
    convolutions = [stem[0], *block_convolutions([*trunk_blocks, *last])]
    return ImportedWeights(
        name=name,
        sizes={"width": len(state["trunk.conv1.weight"]), "affine_after_addition": after},
        state=state,
        notes=padding_notes(convolutions, "zeros"),
    )


def _resnet_name(stages: Sequence[Sequence[Block]]) -> str:
    shapes = {len(block.branch) for stage in stages for block in stage}
    shape = (*sorted(shapes), *(len(stage) for stage in stages))
    if shape not in RESNETS:
        known = "ResNet-18 (2, 2, 2 and 2, of 2 convolutions) or of ResNet-50 (3, 4, 6 and 3, of 3)"
        found = f"{[len(stage) for stage in stages]} of {sorted(shapes)}"
        raise unknown(f"the blocks of {known}", found)
    return RESNETS[shape]


def _on_vgg(
    features: Sequence[Layer], middle: Sequence[Layer], reader: WeightReader
) -> ImportedWeights:
    convolutions = every(features, "conv")
    if len(convolutions) != sum(VGG_16):
        raise unknown(f"the {sum(VGG_16)} convolutions of VGG-16", len(convolutions))
    for pooling in every(features, "pool"):
        expect_pooling(pooling, side=2, stride=2, pad=0)
    # In ``VGG.features`` a ReLU follows each convolution, and a pooling each stage.
    indices, position = [], 0
    for depth in VGG_16:
        indices += [position + 2 * step for step in range(depth)]
        position += 2 * depth + 1
    named = zip((f"trunk.features.{index}" for index in indices), convolutions, strict=True)
    state = reader.convolutions(dict(named))
    forks = [layer for layer in middle if is_weighted([layer]) and layer.kind == "fork"]
    if forks:
        name, (towers, sizes) = "multipathnet-vgg16", _foveal_towers(forks, reader)
    else:
        name, towers = "fast-rcnn-vgg16", _tower_state("class_towers.0.", middle, reader)
        sizes = {"hidden": len(towers["class_towers.0.embed.3.bias"])}
    return ImportedWeights(
        name=name,
        sizes={"width": len(state["trunk.features.0.weight"]), **sizes},
        state=state | towers,
        notes=padding_notes(convolutions, "zeros"),
    )


def _foveal_towers(forks: Sequence[Layer], reader: WeightReader) -> tuple[State, dict[str, Size]]:
    """Return the state of the four towers that classify and of the box tower if there is one.

    The second result contains the sizes of ``multipathnet_vgg16`` that follow from it.
    """
    counts = [len(fork.branches) for fork in forks]
    if counts not in ([len(FOVEA)], [len(FOVEA) + 1]):
        raise unknown(
            f"{len(FOVEA)} or {len(FOVEA) + 1} towers, of the four regions of the original code",
            counts,
        )
    prefixes = [*(f"class_towers.{index}." for index in range(len(FOVEA))), "box_tower."]
    maps = [count for _, count in (*FOVEA, BOX_REGION)]
    state: State = {}
    normalized = set()
    # Without a box tower the last prefix has no branch.
    for prefix, tower, count in zip(prefixes, forks[0].branches, maps, strict=False):
        state |= _tower_state(prefix, tower, reader, mixed=True)
        normalized.add(_is_normalized(tower, count, prefix[:-1]))
    if len(normalized) > 1:
        raise unknown("maps that are normalized in all towers or in none", "both")
    return state, {
        "mixed": len(state["class_towers.0.mix.bias"]),
        "hidden": len(state["class_towers.0.embed.3.bias"]),
        "box_tower": counts != [len(FOVEA)],
        "normalised": normalized.pop(),
    }


def _tower_state(
    prefix: str, tower: Sequence[Layer], reader: WeightReader, *, mixed: bool = False
) -> State:
    """Return fc6 and fc7 of a tower and, where it mixes maps, the 1x1 convolution before them."""
    layers = [layer for layer in tower if layer.kind in ("conv", "linear", "relu")]
    expected = "conv linear relu linear relu" if mixed else "linear relu linear relu"
    *mix, fc6, fc7 = expect(layers, expected, f"of {prefix[:-1]}")
    state = reader.convolutions({f"{prefix}mix": layer for layer in mix})
    return state | reader.linears({f"{prefix}embed.0": fc6, f"{prefix}embed.3": fc7})


def _is_normalized(tower: Sequence[Layer], maps: int, name: str) -> bool:
    """Return whether the maps of a tower are L2-normalized, or divided (``model_conv345_norm``)."""
    norms = len(every(tower, "normalize"))
    factors = [layer.node["constant_scalar"] for layer in every(tower, "times")]
    if norms == maps and _are(factors, [L2_SCALE]):
        return True
    if norms == 0 and _are(factors, FACTORS[:maps]):
        return False
    raise unknown(
        f"in {name} {maps} normalized maps times 1000, or maps times 1, 1/30 and 1/200",
        f"{norms} normalizations and factors {factors}",
    )


def _are(values: Sequence[Value], expected: Sequence[float]) -> bool:
    """Return whether values are these numbers, up to the rounding of a float32."""
    return len(values) == len(expected) and all(
        isinstance(value, (int, float)) and math.isclose(value, number, rel_tol=1e-6)
        for value, number in zip(values, expected, strict=True)
    )
