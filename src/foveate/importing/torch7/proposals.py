# SPDX-License-Identifier: Apache-2.0
"""DeepMask and SharpMask out of a Torch7 file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from foveate.errors import ModelError
from foveate.importing.found import Found, State
from foveate.importing.torch7.geometry import expect_pooling, padding_notes
from foveate.importing.torch7.layers import Layer, Walker, every, is_weighted, signature
from foveate.importing.torch7.resnet import (
    block_convolutions,
    split_stages,
    stage_state,
    stem_state,
    take_blocks,
)
from foveate.importing.torch7.values import Node, Table, Value, describe
from foveate.importing.torch7.weights import Weights

DEEPMASK = "import a DeepMask or SharpMask of the original code"


def find_deepmask(model: Node, walker: Walker, weights: Weights) -> Found:
    """Map a DeepMask, on ResNet-50 or, as in the first paper, on VGG-A.

    Args:
        model: ``nn.DeepMask``, or a SharpMask, whose DeepMask is mapped.
        walker: Opens containers.
        weights: Copies weights.

    Raises:
        ModelError: It is of another architecture.
    """
    trunk = walker.layers(model["trunk"], "trunk")
    masks = model["maskBranch"] or model["maskBranchDM"]
    mask = walker.layers(masks, "maskBranch")
    score = walker.layers(model["scoreBranch"], "scoreBranch")
    if every(trunk, "fork"):
        return _on_resnet(trunk, mask, score, weights)
    return _on_vgg(trunk, mask, score, weights)


def _on_resnet(
    trunk: Sequence[Layer], mask: Sequence[Layer], score: Sequence[Layer], weights: Weights
) -> Found:
    stem = trunk[: _index(trunk, "fork")]
    blocks, tail = take_blocks(trunk[len(stem) :])
    stages = split_stages(blocks)
    shape = [[len(block.branch) for block in stage] for stage in stages]
    if shape != [[3] * 3, [3] * 4, [3] * 6]:
        raise ModelError(
            "expected a trunk of 3, 4 and 6 blocks of 3 convolutions each, "
            f"found {[len(stage) for stage in stages]} blocks",
            remedy="only ResNet-50 is a DeepMask's trunk here",
        )
    after = any(block.affine for block in blocks)
    state = stem_state(stem, "trunk.", weights)
    for number, stage in enumerate(stages, 1):
        state |= stage_state(stage, f"trunk.layer{number}.", weights, after=after)
    neck, embed = _expect(tail, r"conv relu (linear|conv)", "behind the last block of the trunk")
    (masks,) = _expect(mask, r"linear|conv", "in the mask branch")
    hidden, last = _expect(score, r"(linear|conv) relu (linear|conv)", "in the score branch")
    state |= _neck_state(neck, embed, masks, weights)
    state |= _score_state({"score.1": hidden, "score.4": last}, weights)
    convolutions = [stem[0], *block_convolutions(blocks)]
    return Found(
        name="deepmask-resnet50",
        sizes={
            "width": len(state["trunk.conv1.weight"]),
            "neck": len(state["neck.weight"]),
            "vector": len(state["embed.weight"]),
            "score_hidden": len(state["score.1.weight"]),
            "affine_after_addition": after,
        },
        state=state,
        notes=padding_notes(convolutions, "symmetric"),
    )


def _on_vgg(
    trunk: Sequence[Layer], mask: Sequence[Layer], score: Sequence[Layer], weights: Weights
) -> Found:
    # Where the trunk ends and the mask branch begins is not told by the paper.
    flat = [*trunk, *mask]
    depths = (
        r"conv relu pool conv relu pool (conv relu ){2}pool (conv relu ){2}pool (conv relu ){2}"
    )
    tail = r"conv relu (linear|conv) (linear|conv)"
    layers = _expect(flat, depths + tail, "in the trunk and the mask branch")
    *features, neck, embed, masks = layers
    for layer in flat:
        if layer.kind == "pool":
            expect_pooling(layer, side=2, stride=2, pad=0)
    state: State = {}
    indices = [i for i, layer in enumerate(flat) if layer.kind == "conv"]
    for index, conv in zip(indices, features, strict=False):
        weight, bias = weights.biased(conv)
        state[f"trunk.features.{index}.weight"] = weight
        state[f"trunk.features.{index}.bias"] = bias
    state |= _neck_state(neck, embed, masks, weights)
    heads = _expect(score, r"pool (linear|conv)( relu (linear|conv)){2}", "in the score branch")
    state |= _score_state(dict(zip(("score.1", "score.4", "score.7"), heads, strict=True)), weights)
    first = state["score.1.weight"]
    channels = len(state[f"trunk.features.{indices[len(features) - 1]}.bias"])
    cells = math.isqrt(first.shape[1] // channels)
    if channels * cells**2 == first.shape[1]:
        state["score.1.weight"] = first.reshape(len(first), channels, cells, cells)
    return Found(
        name="deepmask-vgg",
        sizes={
            "width": len(state["trunk.features.0.weight"]),
            "neck": len(state["neck.weight"]),
            "vector": len(state["embed.weight"]),
            "score_hidden": len(first),
        },
        state=state,
        notes=padding_notes(features, "zeros"),
    )


def _neck_state(neck: Layer, embed: Layer, mask: Layer, weights: Weights) -> State:
    """The 1x1 convolution, the windows' linear layer as a convolution, and the mask layer."""
    neck_weight, neck_bias = weights.biased(neck)
    embed_weight, embed_bias = weights.linear(embed)
    mask_weight, mask_bias = weights.linear(mask)
    channels = len(neck_weight)
    cells = math.isqrt(embed_weight.shape[1] // channels)
    if channels * cells**2 != embed_weight.shape[1]:
        raise ModelError(
            f"expected inputs for {channels} channels of a square window in {embed.name}, "
            f"found {embed_weight.shape[1]}",
            remedy=DEEPMASK,
        )
    return {
        "neck.weight": neck_weight,
        "neck.bias": neck_bias,
        "embed.weight": embed_weight.reshape(-1, channels, cells, cells),
        "embed.bias": embed_bias,
        "mask.weight": mask_weight,
        "mask.bias": mask_bias,
    }


def _score_state(layers: dict[str, Layer], weights: Weights) -> State:
    """Linear layers as 1x1 convolutions, for running over an image."""
    state: State = {}
    for name, layer in layers.items():
        weight, bias = weights.linear(layer)
        state[f"{name}.weight"], state[f"{name}.bias"] = weight[:, :, None, None], bias
    return state


def find_sharpmask(model: Node, walker: Walker, weights: Weights) -> Found:
    """Map a SharpMask and the DeepMask in it.

    Args:
        model: ``nn.SharpMask``.
        walker: Opens containers.
        weights: Copies weights.

    Raises:
        ModelError: It is of another architecture.
    """
    deepmask = find_deepmask(model, walker, weights)
    state = {f"deepmask.{name}": tensor for name, tensor in deepmask.state.items()}
    verticals = _numbered(model, "netvs", range(5))
    horizontals = _numbered(model, "neths", range(1, 5))
    modules = _numbered(model, "refs", range(1, 5))
    (encode,) = _expect(walker.layers(verticals[0], "netvs[0]"), r"linear", "in netvs[0]")
    state["encode.weight"], state["encode.bias"] = weights.linear(encode)
    convolutions = []
    for index in range(4):
        path = f"neths[{index + 1}]"
        horizontal = walker.layers(horizontals[index], path)
        found = dict(zip((0, 2, 4), _expect(horizontal, r"conv( relu conv){2}", path), strict=True))
        convolutions += _put(state, f"refinements.{index}.horizontal.", found, weights)
        path = f"netvs[{index + 1}]"
        vertical = walker.layers(verticals[index + 1], path)
        found = dict(zip((0, 2), _expect(vertical, r"conv relu conv", path), strict=True))
        convolutions += _put(state, f"refinements.{index}.vertical.", found, weights)
    path = "refs[4]"
    final = [layer for layer in walker.layers(modules[3], path) if layer.kind == "conv"]
    state["mask.weight"], state["mask.bias"] = weights.biased(_expect(final, "conv", path)[0])
    cells = state["deepmask.embed.weight"].shape[-1]
    return Found(
        name="sharpmask-resnet50",
        sizes={
            **deepmask.sizes,
            "km": len(state["encode.weight"]) // cells**2,
            "ks": len(state["refinements.0.horizontal.2.weight"]),
        },
        state=state,
        notes=[*deepmask.notes, *padding_notes([*convolutions, final[0]], "symmetric")],
    )


def _put(state: State, prefix: str, layers: dict[int, Layer], weights: Weights) -> list[Layer]:
    for position, layer in layers.items():
        weight, bias = weights.biased(layer)
        state[f"{prefix}{position}.weight"], state[f"{prefix}{position}.bias"] = weight, bias
    return list(layers.values())


def _numbered(model: Node, name: str, keys: range) -> list[Value]:
    table = model[name]
    if not isinstance(table, Table) or any(table[key] is None for key in keys):
        raise ModelError(
            f"expected {name} with the keys {keys[0]} to {keys[-1]} in a {model.name}, "
            f"found {'other keys' if isinstance(table, Table) else describe(table)}",
            remedy=DEEPMASK,
        )
    return [table[key] for key in keys]


def _expect(layers: Sequence[Layer], pattern: str, where: str) -> list[Layer]:
    """Return the layers with weights if their kinds are as expected."""
    found = signature(layers)
    if not re.fullmatch(pattern, found):
        raise ModelError(
            f"expected the layers {pattern!r} {where}, found {found!r}", remedy=DEEPMASK
        )
    return [layer for layer in layers if is_weighted([layer])]


def _index(layers: Sequence[Layer], kind: str) -> int:
    return next(index for index, layer in enumerate(layers) if layer.kind == kind)
