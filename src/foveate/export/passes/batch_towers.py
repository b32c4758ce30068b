# SPDX-License-Identifier: Apache-2.0
"""The linear layers of all towers, as one product of batches each.

Nothing is saved but calls: (T, R, in) times (T, in, out) in place of T products, for GPUs, where a
call has a price of its own. ONNX Runtime on a CPU is mostly slower so; see docs/how-to/passes.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from foveate.export.passes.saving import Saving, Work, weights_of
from foveate.models.checkpoint import Cascade
from foveate.models.towers import JointLinear, LinearTower


def batch_towers(cascade: Cascade) -> Iterator[Saving]:
    """Batch in place, where there are several towers and their layers have the same shapes."""
    network = cascade.classifier
    if network is None or network.joint is not None:
        return
    towers = [tower for tower in network.towers if isinstance(tower, LinearTower)]
    if len(towers) < 2 or len(towers) < len(network.towers):
        return
    layers = [_layers(tower) for tower in towers]
    if len({tuple(_shape(one) for one in own) for own in layers}) > 1:
        return
    joint = _joint(layers).eval()
    network.joint = joint
    for tower in towers:
        tower.embed = nn.Identity()
    products = [one for one in joint if isinstance(one, JointLinear)]
    weights = weights_of(*products)
    after = Work(multiplications=weights, weights=weights, products=len(products))
    before = replace(after, products=len(towers) * len(products))
    yield Saving(layer="joint", before=before, after=after)


def _layers(tower: LinearTower) -> list[nn.Module]:
    """Return linear layers and ReLUs in their order."""
    kept = [one for one in tower.embed.modules() if isinstance(one, nn.Linear | nn.ReLU)]
    return [*kept, nn.ReLU()]


def _shape(layer: nn.Module) -> tuple[int, ...]:
    return tuple(layer.weight.shape) if isinstance(layer, nn.Linear) else ()


def _joint(towers: Sequence[list[nn.Module]]) -> nn.Sequential:
    layers = nn.Sequential()
    for same in zip(*towers, strict=True):
        linear = [one for one in same if isinstance(one, nn.Linear)]
        layers.append(_batch(linear) if linear else nn.ReLU())
    return layers


def _batch(layers: Sequence[nn.Linear]) -> JointLinear:
    first = layers[0]
    joint = JointLinear(len(layers), first.in_features, first.out_features)
    joint = joint.to(first.weight.dtype)
    with torch.no_grad():
        joint.weight.copy_(torch.stack([one.weight.T for one in layers]))
        joint.bias.zero_()
        for own, layer in zip(joint.bias, layers, strict=True):
            # The first of the two layers of a decomposition has none.
            for bias in (one for name, one in layer.named_parameters() if name == "bias"):
                own.copy_(bias[None])
    return joint
