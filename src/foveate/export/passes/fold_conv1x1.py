# SPDX-License-Identifier: Apache-2.0
"""A tower's 1x1 convolution, folded into the linear layer behind it.

No ReLU stands between the convolution that mixes a tower's maps and the layer that reads its
cells (MultiPath, section 3.2). For C channels in, M out, P x P cells and F outputs the two take
C M P P + M P P F multiplications, the folded layer C P P F: less where C F < M (C + F). Its weights
are as many as its multiplications, so a tower is folded only where they do not grow either. Of the
published networks that is the tower of MultiPathNet that reads one map, for which C = M.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from foveate.export.passes.saving import Saving, Work, weights_of
from foveate.models.checkpoint import Cascade
from foveate.models.towers import LinearTower


def fold_conv1x1(cascade: Cascade) -> Iterator[Saving]:
    """Fold in place, in each tower where neither multiplications nor weights grow."""
    if cascade.classifier is None:
        return
    for name, tower in cascade.classifier.named_modules():
        if not isinstance(tower, LinearTower) or not isinstance(tower.mix, nn.Conv2d):
            continue
        where, layer = _first_linear(tower)
        cells = tower.pooling.side**2
        folded = tower.mix.in_channels * cells * layer.out_features
        before = Work(
            multiplications=cells * weights_of(tower.mix) + weights_of(layer),
            weights=weights_of(tower.mix, layer),
            products=2,
        )
        after = Work(multiplications=folded, weights=folded, products=1)
        if not after.saves(before):
            continue
        tower.set_submodule(where, _folded(tower.mix, layer, cells))
        tower.mix = nn.Identity()
        yield Saving(layer=name, before=before, after=after)


def _first_linear(tower: LinearTower) -> tuple[str, nn.Linear]:
    """Return fc6, or the first of the two that a decomposition made of it, and where it stands."""
    for name, module in tower.named_modules():
        if isinstance(module, nn.Linear):
            return name, module
    raise AssertionError("a linear tower has a linear layer")


def _folded(mix: nn.Conv2d, layer: nn.Linear, cells: int) -> nn.Linear:
    """Multiply the weights, in float64."""
    with torch.no_grad():
        weight = layer.weight.double().reshape(layer.out_features, mix.out_channels, cells)
        mixed = torch.einsum("fmp,mc->fcp", weight, mix.weight.double().flatten(1))
        result = nn.Linear(mix.in_channels * cells, layer.out_features, dtype=layer.weight.dtype)
        result.weight.copy_(mixed.flatten(1))
        result.bias.copy_(weight.sum(2) @ mix.get_parameter("bias").double())
        # The first of the two layers of a decomposition has none.
        for bias in (one for name, one in layer.named_parameters() if name == "bias"):
            result.bias.add_(bias)
    return result.eval()
