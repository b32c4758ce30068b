# SPDX-License-Identifier: Apache-2.0
"""Truncated singular value decomposition of the linear layers of a detector's towers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from foveate.errors import OptionError
from foveate.models.multipathnet import LinearTower, MultiPathNet


def truncate_towers(network: MultiPathNet, ranks: Sequence[int]) -> None:
    """Replace each linear layer of all towers by two layers of a lower rank.

    Args:
        network: Detector to change. **Modified in place.** Its weights are read in float32.
        ranks: Rank for each linear layer of a tower in order, such as for fc6 and fc7.

    Raises:
        OptionError: The towers have no linear layers or another number of them, or a rank is not
            positive or so large that two layers would cost more than one.
    """
    towers = [tower for tower in network.towers if isinstance(tower, LinearTower)]
    if not towers:
        raise OptionError(
            "--svd truncates linear layers, and the towers of this network have none",
            remedy="export without --svd",
        )
    for tower in towers:
        layers = list(tower.embed) if isinstance(tower.embed, nn.Sequential) else [tower.embed]
        linear = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        if len(linear) != len(ranks):
            raise OptionError(
                f"--svd has {len(ranks)} ranks, and each tower has {len(linear)} linear layers",
                remedy=f"give one rank per layer, {len(linear)} in all",
            )
        for index, rank in zip(linear, ranks, strict=True):
            layers[index] = _factored(layers[index], rank)
        tower.embed = nn.Sequential(*layers)


def _factored(layer: nn.Module, rank: int) -> nn.Sequential:
    # Girshick, "Fast R-CNN" (ICCV 2015), section 3.1: W (u x v) becomes S V^T (t x v, no bias) and
    # U (u x t, with the bias of W), without an activation between them, where U S V^T are the t
    # largest singular values of W and their vectors. The cost is t (u + v) in place of u v. The
    # pass is not exact: its effect on average precision has to be measured.
    assert isinstance(layer, nn.Linear)
    rows, columns = layer.weight.shape
    limit = (rows * columns - 1) // (rows + columns)
    if not 1 <= rank <= limit:
        raise OptionError(
            f"--svd has the rank {rank} for a layer of {columns} inputs and {rows} outputs, "
            f"expected 1 to {limit}",
            remedy=f"give at most {limit}: above that, two layers cost more than one",
        )
    with torch.no_grad():
        u, s, vt = torch.linalg.svd(layer.weight.float(), full_matrices=False)
        first = nn.Linear(columns, rank, bias=False)
        second = nn.Linear(rank, rows)
        first.weight.copy_(s[:rank, None] * vt[:rank])
        second.weight.copy_(u[:, :rank])
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)
