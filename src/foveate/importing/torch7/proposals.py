# SPDX-License-Identifier: Apache-2.0
"""DeepMask and SharpMask from a Torch7 file."""

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile

from foveate.importing.imported_weights import ImportedWeights, State
from foveate.importing.torch7.layers import (
    Layer,
    Walker,
    every,
    expect,
    expect_pooling,
    padding_notes,
)
from foveate.importing.torch7.resnet import (
    block_convolutions,
    resnet_state,
    split_stages,
    take_blocks,
)
from foveate.importing.torch7.values import Node, Table, Value, describe, unknown
from foveate.importing.torch7.weights import WeightReader

# VGG-A, then neck, linear layer of a window and mask layer. In a network set up for whole images
# linear layers are convolutions.
VGG_A = r"conv relu pool conv relu pool (conv relu ){2}pool (conv relu ){2}pool (conv relu ){2}"
VGG_TAIL = r"conv relu (linear|conv) (linear|conv)"


def deepmask_weights(model: Node, walker: Walker, reader: WeightReader) -> ImportedWeights:
    """Map a DeepMask, or that of a SharpMask, on ResNet-50 or, as in the first paper, on VGG-A."""
    trunk = walker.layers(model["trunk"], "trunk")
    masks = model["maskBranch"] or model["maskBranchDM"]
    mask = walker.layers(masks, "maskBranch")
    score = walker.layers(model["scoreBranch"], "scoreBranch")
    on_trunk = _on_resnet if every(trunk, "fork") else _on_vgg
    return on_trunk(trunk, mask, score, reader)


def _on_resnet(
    trunk: Sequence[Layer], mask: Sequence[Layer], score: Sequence[Layer], reader: WeightReader
) -> ImportedWeights:
    stem = list(takewhile(lambda layer: layer.kind != "fork", trunk))
    blocks, tail = take_blocks(trunk[len(stem) :])
    stages = split_stages(blocks)
    shape = [[len(block.branch) for block in stage] for stage in stages]
    if shape != [[3] * 3, [3] * 4, [3] * 6]:
        raise unknown(
            "a trunk of 3, 4 and 6 blocks of 3 convolutions each, as in ResNet-50",
            f"{[len(stage) for stage in stages]} blocks",
        )
    named = {f"trunk.layer{number}.": stage for number, stage in enumerate(stages, 1)}
    state, after = resnet_state(stem, named, reader)
    neck, embed = expect(tail, r"conv relu (linear|conv)", "after the last block of the trunk")
    (masks,) = expect(mask, r"linear|conv", "in the mask branch")
    hidden, last = expect(score, r"(linear|conv) relu (linear|conv)", "in the score branch")
    state |= _neck_state(neck, embed, masks, reader)
    state |= _score_state({"score.1": hidden, "score.4": last}, reader)
    return ImportedWeights(
        name="deepmask-resnet50",
        sizes={
            "width": len(state["trunk.conv1.weight"]),
            "neck": len(state["neck.weight"]),
            "vector": len(state["embed.weight"]),
            "score_hidden": len(state["score.1.weight"]),
            "affine_after_addition": after,
        },
        state=state,
        notes=padding_notes([stem[0], *block_convolutions(blocks)], "symmetric"),
    )


def _on_vgg(
    trunk: Sequence[Layer], mask: Sequence[Layer], score: Sequence[Layer], reader: WeightReader
) -> ImportedWeights:
    # The paper does not specify where the trunk ends and the mask branch begins.
    flat = [*trunk, *mask]
    layers = expect(flat, VGG_A + VGG_TAIL, "in the trunk and the mask branch")
    *features, neck, embed, masks = layers
    for layer in every(flat, "pool"):
        expect_pooling(layer, side=2, stride=2, pad=0)
    indices = [i for i, layer in enumerate(flat) if layer.kind == "conv"][: len(features)]
    named = zip((f"trunk.features.{index}" for index in indices), features, strict=True)
    state = reader.convolutions(dict(named))
    state |= _neck_state(neck, embed, masks, reader)
    heads = expect(score, r"pool (linear|conv)( relu (linear|conv)){2}", "in the score branch")
    state |= _score_state(dict(zip(("score.1", "score.4", "score.7"), heads, strict=True)), reader)
    first = state["score.1.weight"]
    channels = len(state[f"trunk.features.{indices[-1]}.bias"])
    cells = math.isqrt(first.shape[1] // channels)
    # If the pooled window is not square, the shapes are compared and refused when it is built.
    if channels * cells**2 == first.shape[1]:
        state["score.1.weight"] = first.reshape(len(first), channels, cells, cells)
    return ImportedWeights(
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


def _neck_state(neck: Layer, embed: Layer, mask: Layer, reader: WeightReader) -> State:
    """Return the 1x1 convolution, the linear layer of a window as a convolution, the mask layer."""
    state = reader.convolutions({"neck": neck})
    state |= reader.linears({"embed": embed, "mask": mask})
    channels, weight = len(state["neck.weight"]), state["embed.weight"]
    cells = math.isqrt(weight.shape[1] // channels)
    if channels * cells**2 != weight.shape[1]:
        raise unknown(
            f"inputs for {channels} channels of a square window in {embed.name}", weight.shape[1]
        )
    state["embed.weight"] = weight.reshape(-1, channels, cells, cells)
    return state


def _score_state(layers: Mapping[str, Layer], reader: WeightReader) -> State:
    """Return linear layers as 1x1 convolutions, which run over an image."""
    return {
        name: tensor[:, :, None, None] if tensor.dim() == 2 else tensor
        for name, tensor in reader.linears(layers).items()
    }


def sharpmask_weights(model: Node, walker: Walker, reader: WeightReader) -> ImportedWeights:
    """Map an ``nn.SharpMask`` and its DeepMask."""
    deepmask = deepmask_weights(model, walker, reader)
    state = {f"deepmask.{name}": tensor for name, tensor in deepmask.state.items()}
    verticals = _numbered(model, "netvs", range(5))
    horizontals = _numbered(model, "neths", range(1, 5))
    modules = _numbered(model, "refs", range(1, 5))
    (encode,) = expect(walker.layers(verticals[0], "netvs[0]"), r"linear", "in netvs[0]")
    state |= reader.linears({"encode": encode})
    convolutions: dict[str, Layer] = {}
    for index in range(4):
        halves = (
            ("horizontal", f"neths[{index + 1}]", horizontals[index], r"conv( relu conv){2}"),
            ("vertical", f"netvs[{index + 1}]", verticals[index + 1], r"conv relu conv"),
        )
        for half, path, module, pattern in halves:
            found = expect(walker.layers(module, path), pattern, f"in {path}")
            for number, layer in enumerate(found):  # with a ReLU between two convolutions
                convolutions[f"refinements.{index}.{half}.{2 * number}"] = layer
    # The last module also has the other halves, which were walked above.
    last = [layer for layer in walker.layers(modules[3], "refs[4]") if layer.kind == "conv"]
    (convolutions["mask"],) = expect(last, "conv", "in refs[4]")
    state |= reader.convolutions(convolutions)
    cells = state["deepmask.embed.weight"].shape[-1]
    return ImportedWeights(
        name="sharpmask-resnet50",
        sizes={
            **deepmask.sizes,
            "km": len(state["encode.weight"]) // cells**2,
            "ks": len(state["refinements.0.horizontal.2.weight"]),
        },
        state=state,
        notes=[*deepmask.notes, *padding_notes([*convolutions.values()], "symmetric")],
    )


def _numbered(model: Node, name: str, keys: range) -> list[Value]:
    table = model[name]
    if not isinstance(table, Table) or any(table[key] is None for key in keys):
        raise unknown(
            f"{name} with the keys {keys[0]} to {keys[-1]} in a {model.name}",
            "other keys" if isinstance(table, Table) else describe(table),
        )
    return [table[key] for key in keys]
