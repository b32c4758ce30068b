# SPDX-License-Identifier: Apache-2.0
"""Residual blocks of a Torch7 network, with the affine maps wherever the file has them.

fb.resnet.torch builds a block as {ConcatTable{branch, shortcut}, CAddTable, ReLU} with batch norm at
the end of branch and shortcut; some of its published files have one batch norm behind the addition
instead. Networks here have one form or the other in all blocks. A file that mixes them is brought
into the second form, which can say both: scales before the addition go into the convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from foveate.errors import ModelError
from foveate.importing.torch7.geometry import expect_pooling
from foveate.importing.torch7.layers import Layer, is_weighted, signature
from foveate.importing.torch7.weights import State, Weights

RESNET = "import a network on a ResNet of fb.resnet.torch"

BRANCH = re.compile(r"conv( affine)?( relu conv( affine)?)+")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block.

    Attributes:
        path: Of its fork in the file.
        branch: Convolutions, each with the affine map behind it, or None.
        shortcut: The same, or None where the shortcut has no weights.
        affine: The affine map behind the addition.
    """

    path: str
    branch: tuple[tuple[Layer, Layer | None], ...]
    shortcut: tuple[Layer, Layer | None] | None
    affine: Layer | None

    @property
    def stride(self) -> int:
        """The stride of its one convolution with a stride."""
        return max(conv.whole("dW", 1) for conv, _ in self.branch)


def take_blocks(layers: Sequence[Layer]) -> tuple[list[Block], list[Layer]]:
    """Parse residual blocks, up to the first layer that belongs to none.

    Returns:
        The blocks, and the layers behind them.

    Raises:
        ModelError: Something begins like a block and is none.
    """
    rest, blocks = list(layers), []
    while rest and rest[0].kind == "fork":
        found = re.match(r"fork sum( affine)? relu\b", signature(rest[:4]))
        if found is None or len(rest[0].branches) != 2:
            raise ModelError(
                f"expected a block 'fork sum relu' with two branches at {rest[0].path}, "
                f"found {signature(rest[:4])!r} with {len(rest[0].branches)}",
                remedy=RESNET,
            )
        blocks.append(_block(rest[0], rest[2] if found[1] else None))
        rest = rest[4 if found[1] else 3 :]
    return blocks, rest


def _block(fork: Layer, affine: Layer | None) -> Block:
    shortcut, branch = sorted(fork.branches, key=len)
    if not BRANCH.fullmatch(signature(branch)):
        raise ModelError(
            f"expected a branch such as 'conv affine relu conv affine' in {fork.name}, "
            f"found {signature(branch)!r}",
            remedy=RESNET,
        )
    if is_weighted(shortcut) and signature(shortcut) not in ("conv", "conv affine"):
        raise ModelError(
            f"expected a shortcut 'conv affine' in {fork.name}, found {signature(shortcut)!r}",
            remedy=RESNET,
        )
    block = Block(
        path=fork.path,
        branch=tuple(_pairs(branch)),
        shortcut=_pairs(shortcut)[0] if is_weighted(shortcut) else None,
        affine=affine,
    )
    strides = [conv.whole("dW", 1) for conv, _ in block.branch]
    # On a bottleneck's 3x3 convolution, unlike in the first release of the paper.
    strided = 1 if len(strides) == 3 else 0
    if block.stride not in (1, 2) or any(s != 1 for i, s in enumerate(strides) if i != strided):
        raise ModelError(
            f"expected a stride of 1 or 2 on convolution {strided + 1} of the branch in "
            f"{fork.name}, found strides {strides}",
            remedy=RESNET,
        )
    if block.shortcut is not None and block.shortcut[0].whole("dW", 1) != block.stride:
        raise ModelError(
            f"expected a shortcut of stride {block.stride} in {fork.name}, "
            f"found {block.shortcut[0].whole('dW', 1)}",
            remedy=RESNET,
        )
    return block


def _pairs(layers: Sequence[Layer]) -> list[tuple[Layer, Layer | None]]:
    pairs = []
    for index, layer in enumerate(layers):
        if layer.kind == "conv":
            behind = layers[index + 1] if index + 1 < len(layers) else None
            pairs.append((layer, behind if behind and behind.kind == "affine" else None))
    return pairs


def split_stages(blocks: Sequence[Block]) -> list[list[Block]]:
    """Split blocks into stages: each begins with a stride of 2, but for the first."""
    stages: list[list[Block]] = []
    for block in blocks:
        if not stages or block.stride == 2:
            stages.append([])
        stages[-1].append(block)
    return stages


def block_convolutions(blocks: Sequence[Block]) -> list[Layer]:
    """All convolutions of blocks."""
    pairs = [pair for b in blocks for pair in (*b.branch, *([b.shortcut] if b.shortcut else []))]
    return [conv for conv, _ in pairs]


def stage_state(blocks: Sequence[Block], prefix: str, weights: Weights, *, after: bool) -> State:
    """Make the state of a stage as `models.resnet.residual_stage` builds it.

    Args:
        blocks: Of the stage.
        prefix: Of the names, with the dot.
        weights: Copies them.
        after: Build the form with the affine map behind the addition.
    """
    state: State = {}
    for index, block in enumerate(blocks):
        state |= _block_state(block, f"{prefix}{index}.", weights, after=after)
    return state


def _block_state(block: Block, prefix: str, weights: Weights, *, after: bool) -> State:
    state: State = {}
    summands: list[torch.Tensor] = []
    last = len(block.branch)
    for index, (conv, affine) in enumerate(block.branch, 1):
        weight, scale, shift = weights.folded(conv, affine)
        if after and index == last:
            state[f"{prefix}conv{index}.weight"] = weight * scale[:, None, None, None]
            summands.append(shift)
        else:
            state[f"{prefix}conv{index}.weight"] = weight
            state |= _affine_state(f"{prefix}affine{index}", scale, shift)
    if block.shortcut is not None:
        weight, scale, shift = weights.folded(*block.shortcut)
        if after:
            state[f"{prefix}shortcut.0.weight"] = weight * scale[:, None, None, None]
            summands.append(shift)
        else:
            state[f"{prefix}shortcut.0.weight"] = weight
            state |= _affine_state(f"{prefix}shortcut.1", scale, shift)
    if after:
        channels = {len(shift) for shift in summands}
        if len(channels) > 1:
            raise ModelError(
                f"expected as many channels in the branch as in the shortcut of {block.path}, "
                f"found {sorted(channels)}",
                remedy=RESNET,
            )
        total = torch.stack(summands).sum(0)
        scale, shift = torch.ones_like(total), torch.zeros_like(total)
        if block.affine is not None:
            scale, shift = weights.affine(block.affine, len(total))
        state |= _affine_state(f"{prefix}affine_out", scale, shift + scale * total)
    return state


def stem_state(stem: Sequence[Layer], prefix: str, weights: Weights) -> State:
    """Make the state of the first convolution and its affine map.

    Args:
        stem: Layers up to the first block.
        prefix: Of the names, with the dot.
        weights: Copies them.

    Raises:
        ModelError: It is no ResNet's stem.
    """
    if not re.fullmatch(r"conv( affine)? relu pool", signature(stem)):
        raise ModelError(
            f"expected the stem 'conv affine relu pool', found {signature(stem)!r}", remedy=RESNET
        )
    if stem[0].whole("dW") != 2:
        raise ModelError(
            f"expected a stride of 2 in {stem[0].name}, found {stem[0].whole('dW')}", remedy=RESNET
        )
    expect_pooling(stem[-1], side=3, stride=2, pad=1)
    affine = stem[1] if stem[1].kind == "affine" else None
    weight, scale, shift = weights.folded(stem[0], affine)
    return {f"{prefix}conv1.weight": weight} | _affine_state(f"{prefix}affine1", scale, shift)


def _affine_state(name: str, scale: torch.Tensor, shift: torch.Tensor) -> State:
    return {f"{name}.scale": scale, f"{name}.shift": shift}
