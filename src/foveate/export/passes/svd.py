# SPDX-License-Identifier: Apache-2.0
"""Truncated singular value decomposition of a detector's towers.

Girshick, "Fast R-CNN" (ICCV 2015), section 3.1: a linear layer W (u x v) becomes two, without an
activation between them, S V^T (t x v, no bias) and U (u x t, the bias of W), where U S V^T are the
t largest singular values of W and their vectors. It costs t (u + v) in place of u v. This is no
exact pass: what it costs in average precision has to be measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from foveate.errors import OptionError
from foveate.models.multipathnet import MultiPathNet
from foveate.models.towers import LinearTower


def truncate_towers(network: MultiPathNet, ranks: Sequence[int]) -> None:
    """Factor the linear layers of all towers, in place.

    Args:
        network: its weights are read in float32.
        ranks: number of singular values of each tower's linear layers in order, such as those of
            fc6 and fc7.

    Raises:
        OptionError: the towers have no linear layers or another number of them, or a rank is not
            positive or so large that two layers would cost more than one.
    """
    towers = [tower for tower in network.towers if isinstance(tower, LinearTower)]
    if not towers:
        raise OptionError(
            "--svd factors linear layers, and the towers of this network have none",
            remedy="export without --svd",
        )
    for tower in towers:
        layers = list(tower.embed) if isinstance(tower.embed, nn.Sequential) else [tower.embed]
        linear = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        if len(linear) != len(ranks):
            raise OptionError(
                f"--svd has {len(ranks)} ranks, and each tower {len(linear)} linear layers",
                remedy=f"give one rank per layer, {len(linear)} in all",
            )
        for index, rank in zip(linear, ranks, strict=True):
            layers[index] = _factored(layers[index], rank)
        tower.embed = nn.Sequential(*layers)


def _factored(layer: nn.Module, rank: int) -> nn.Sequential:
    assert isinstance(layer, nn.Linear)
    rows, columns = layer.weight.shape
    limit = (rows * columns - 1) // (rows + columns)
    if not 1 <= rank <= limit:
        raise OptionError(
            f"--svd has the rank {rank} for a layer of {columns} inputs and {rows} outputs, "
            f"expected 1 to {limit}",
            remedy=f"give at most {limit}: from there on two layers cost more than one",
        )
    with torch.no_grad():
        u, s, vt = torch.linalg.svd(layer.weight.float(), full_matrices=False)
        first = nn.Linear(columns, rank, bias=False)
        second = nn.Linear(rank, rows)
        first.weight.copy_(s[:rank, None] * vt[:rank])
        second.weight.copy_(u[:, :rank])
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)
