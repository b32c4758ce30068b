# SPDX-License-Identifier: Apache-2.0
"""Residual blocks of a Torch7 network, with the affine maps wherever the file has them.

fb.resnet.torch builds a block as {ConcatTable{branch, shortcut}, CAddTable, ReLU} with batch norm at
the end of branch and shortcut; some of its published files have one batch norm after the addition
instead. A network here has one form in all its blocks. A file that mixes them is converted to the
second form, which can represent both: scales before the addition go into the convolutions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from foveate.importing.imported_weights import State
from foveate.importing.torch7.layers import Layer, expect, expect_pooling, is_weighted, signature
from foveate.importing.torch7.values import unknown
from foveate.importing.torch7.weights import WeightReader

BRANCH = r"conv( affine)?( relu conv( affine)?)+"
SHORTCUT = r"conv( affine)?"

Pair = tuple[Layer, Layer | None]
"""A convolution and the affine map after it, if there is one."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block.

    Args:
        path: Path of its fork in the file.
        branch: Convolutions of the branch.
        shortcut: Convolution of the shortcut, or ``None`` where the shortcut has no weights.
        affine: Affine map after the addition, if there is one.
    """

    path: str
    branch: tuple[Pair, ...]
    shortcut: Pair | None
    affine: Layer | None

    @property
    def stride(self) -> int:
        """The stride of the block."""
        return max(conv.whole("dW", 1) for conv, _ in self.branch)


def take_blocks(layers: Sequence[Layer]) -> tuple[list[Block], list[Layer]]:
    """Parse residual blocks; return them and the layers from the first that is not part of one."""
    rest, blocks = list(layers), []
    while rest and rest[0].kind == "fork":
        found = re.match(r"fork sum( affine)? relu\b", signature(rest[:4]))
        if found is None or len(rest[0].branches) != 2:
            raise unknown(
                f"a block 'fork sum relu' with two branches at {rest[0].path}",
                f"{signature(rest[:4])!r} with {len(rest[0].branches)}",
            )
        blocks.append(_block(rest[0], rest[2] if found[1] else None))
        rest = rest[4 if found[1] else 3 :]
    return blocks, rest


def _block(fork: Layer, affine: Layer | None) -> Block:
    shortcut, branch = sorted(fork.branches, key=len)
    expect(branch, BRANCH, f"of a branch in {fork.name}")
    if is_weighted(shortcut):
        expect(shortcut, SHORTCUT, f"of a shortcut in {fork.name}")
    block = Block(
        path=fork.path,
        branch=tuple(_pairs(branch)),
        shortcut=_pairs(shortcut)[0] if is_weighted(shortcut) else None,
        affine=affine,
    )
    strides = [conv.whole("dW", 1) for conv, _ in block.branch]
    # On the 3x3 convolution of a bottleneck, unlike in the first release of the paper.
    strided = 1 if len(strides) == 3 else 0
    if block.stride not in (1, 2) or any(s != 1 for i, s in enumerate(strides) if i != strided):
        raise unknown(
            f"a stride of 1 or 2 on convolution {strided + 1} of the branch in {fork.name}",
            f"strides {strides}",
        )
    if block.shortcut is not None and block.shortcut[0].whole("dW", 1) != block.stride:
        raise unknown(
            f"a shortcut of stride {block.stride} in {fork.name}", block.shortcut[0].whole("dW", 1)
        )
    return block


def _pairs(layers: Sequence[Layer]) -> list[Pair]:
    after = [*layers[1:], None]
    return [
        (layer, other if other and other.kind == "affine" else None)
        for layer, other in zip(layers, after, strict=True)
        if layer.kind == "conv"
    ]


def split_stages(blocks: Sequence[Block]) -> list[list[Block]]:
    """Split blocks into stages: each except for the first begins with a stride of 2."""
    stages: list[list[Block]] = []
    for block in blocks:
        if not stages or block.stride == 2:
            stages.append([])
        stages[-1].append(block)
    return stages


def block_convolutions(blocks: Sequence[Block]) -> list[Layer]:
    """Return all convolutions of blocks."""
    pairs = [pair for b in blocks for pair in (*b.branch, *([b.shortcut] if b.shortcut else []))]
    return [conv for conv, _ in pairs]


def resnet_state(
    stem: Sequence[Layer], stages: Mapping[str, Sequence[Block]], reader: WeightReader
) -> tuple[State, bool]:
    """Return the state of a stem and of stages, each with its prefix, as ``models.resnet`` names it.

    The second result is whether the network has the affine maps after the additions.
    """
    after = any(block.affine for blocks in stages.values() for block in blocks)
    state = _stem_state(stem, reader)
    for prefix, blocks in stages.items():
        for index, block in enumerate(blocks):
            state |= _block_state(block, f"{prefix}{index}.", reader, after=after)
    return state, after


def _block_state(block: Block, prefix: str, reader: WeightReader, *, after: bool) -> State:
    state: State = {}
    summands: list[torch.Tensor] = []
    parts = [
        (f"conv{index}", f"affine{index}", pair, index == len(block.branch))
        for index, pair in enumerate(block.branch, 1)
    ]
    if block.shortcut is not None:
        parts.append(("shortcut.0", "shortcut.1", block.shortcut, True))
    for conv, affine, pair, is_last in parts:
        weight, scale, shift = reader.folded(*pair)
        # At the end of a summand there is no affine map in this form.
        if after and is_last:
            state[f"{prefix}{conv}.weight"] = weight * scale[:, None, None, None]
            summands.append(shift)
        else:
            state[f"{prefix}{conv}.weight"] = weight
            state |= _affine_state(f"{prefix}{affine}", scale, shift)
    if after:
        channels = {len(shift) for shift in summands}
        if len(channels) > 1:
            raise unknown(
                f"as many channels in the branch as in the shortcut of {block.path}",
                sorted(channels),
            )
        total = torch.stack(summands).sum(0)
        scale, shift = torch.ones_like(total), torch.zeros_like(total)
        if block.affine is not None:
            scale, shift = reader.affine(block.affine, len(total))
        state |= _affine_state(f"{prefix}affine_out", scale, shift + scale * total)
    return state


def _stem_state(stem: Sequence[Layer], reader: WeightReader) -> State:
    expect(stem, r"conv( affine)? relu pool", "of a stem")
    if stem[0].whole("dW") != 2:
        raise unknown(f"a stride of 2 in {stem[0].name}", stem[0].whole("dW"))
    expect_pooling(stem[-1], side=3, stride=2, pad=1)
    weight, scale, shift = reader.folded(*_pairs(stem)[0])
    return {"trunk.conv1.weight": weight} | _affine_state("trunk.affine1", scale, shift)


def _affine_state(name: str, scale: torch.Tensor, shift: torch.Tensor) -> State:
    return {f"{name}.scale": scale, f"{name}.shift": shift}
