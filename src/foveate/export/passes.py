# SPDX-License-Identifier: Apache-2.0
"""Optimization passes that change the networks of a cascade in place before its export.

An exact pass keeps the function that they compute and depends on their shapes only. So the
networks of a bundle are read back by running the same passes on networks of the same shapes, and
filling in the weights. The truncation of linear layers is not exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import OptionError
from foveate.models.checkpoint import Cascade
from foveate.models.multipathnet import JointLinear, LinearTower, MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.plain_text import counted


@dataclass(frozen=True, kw_only=True)
class Work:
    """Cost of layers, counted from their shapes."""

    multiplications: int  # per window or box
    weights: int
    products: int  # and convolutions, each of which is a call

    def saves(self, before: Work) -> bool:
        """Return whether some of the costs are lower than before, and none is higher."""
        pairs = list(zip(astuple(self), astuple(before), strict=True))
        return self != before and all(own <= former for own, former in pairs)


@dataclass(frozen=True, kw_only=True)
class Saving:
    """A change that a pass made to a layer, such as ``class_towers.3``, and its cost."""

    layer: str
    before: Work
    after: Work


def weights_of(*modules: nn.Module) -> int:
    """Return the number of weights of the modules, without biases."""
    return sum(module.get_parameter("weight").numel() for module in modules)


def fold_conv1x1(cascade: Cascade) -> Iterator[Saving]:
    """Fold the 1x1 convolution of each tower into the linear layer behind it, in place."""
    # There is no ReLU between the convolution that mixes a tower's maps and the layer that reads its
    # cells (MultiPath, section 3.2). For C input channels, M output channels, P x P cells and F
    # outputs, the two take C M P P + M P P F multiplications, and the folded layer takes C P P F,
    # which is less if C F < M (C + F). It has as many weights as multiplications, so a tower is
    # folded only if neither grows. Of the published networks, that holds for the tower of
    # MultiPathNet that reads one map, for which C = M.
    network = cascade.classifier
    if network is None or network.joint is not None:  # its towers have no layers of their own
        return
    for name, tower in network.named_modules():
        if not isinstance(tower, LinearTower) or not isinstance(tower.mix, nn.Conv2d):
            continue
        # fc6, or the first of its two layers after truncation.
        where, layer = _linear_layers(tower)[0]
        cells = tower.pooling.side**2
        folded = tower.mix.in_channels * cells * layer.out_features
        before = Work(
            multiplications=cells * weights_of(tower.mix) + weights_of(layer),
            weights=weights_of(tower.mix, layer),
            products=2,
        )
        after = Work(multiplications=folded, weights=folded, products=1)
        if after.saves(before):
            tower.set_submodule(where, _folded(tower.mix, layer, cells))
            tower.mix = nn.Identity()
            yield Saving(layer=name, before=before, after=after)


def _linear_layers(module: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, one) for name, one in module.named_modules() if isinstance(one, nn.Linear)]


def _folded(mix: nn.Conv2d, layer: nn.Linear, cells: int) -> nn.Linear:
    # Products of float16 weights are not float16 values, so the folded weights stay float32.
    with torch.no_grad():
        weight = layer.weight.double().reshape(layer.out_features, mix.out_channels, cells)
        mixed = torch.einsum("fmp,mc->fcp", weight, mix.weight.double().flatten(1))
        result = nn.Linear(mix.in_channels * cells, layer.out_features, dtype=layer.weight.dtype)
        result.weight.copy_(mixed.flatten(1))
        result.bias.copy_(weight.sum(2) @ mix.get_parameter("bias").double())
        result.bias.add_(_bias_of(layer))
    return result.eval()


def _bias_of(layer: nn.Linear) -> Tensor:
    # The first of the two layers of a truncated one has no bias.
    bias = dict(layer.named_parameters()).get("bias")
    return torch.zeros_like(layer.weight[:, 0]) if bias is None else bias


def fold_encoder(cascade: Cascade) -> Iterator[Saving]:
    """Fold SharpMask's first convolution into the linear layer that encodes a window, in place."""
    # Pinheiro et al., "Learning to Refine Object Segments" (ECCV 2016): a linear layer turns the
    # vector of a window into a map, and the first refinement module convolves it, with no activation
    # between them. Both are linear, including the padding, so one linear layer can replace them; its
    # columns are the convolved columns of the former one.
    network = cascade.proposals
    if not isinstance(network, SharpMask):
        return
    module = network.coarse_to_fine[0]
    where = "vertical.0" if isinstance(module.vertical, nn.Sequential) else "vertical"
    convolution = module.get_submodule(where)
    encode, cells = network.encode, network.cells**2
    if not isinstance(convolution, nn.Conv2d):  # it has been folded
        return
    outputs = convolution.out_channels * cells
    weights = encode.in_features * outputs
    before = Work(
        multiplications=weights_of(encode) + cells * weights_of(convolution),
        weights=weights_of(encode, convolution),
        products=2,
    )
    after = Work(multiplications=weights, weights=weights, products=1)
    if not after.saves(before):
        return
    network.encode = _encoder_folded(encode, convolution, network.cells)
    module.set_submodule(where, nn.Identity())
    yield Saving(layer="encode", before=before, after=after)


def _encoder_folded(encode: nn.Linear, convolution: nn.Conv2d, side: int) -> nn.Linear:
    """Convolve the columns of a linear layer, each a map of ``side`` x ``side`` cells, in float64."""

    def convolved(maps: Tensor) -> Tensor:
        found: Tensor = convolution(maps.reshape(-1, convolution.in_channels, side, side))
        return found.flatten(1)

    dtype = encode.weight.dtype
    with torch.no_grad():
        convolution = convolution.double()
        bias = convolved(encode.bias.double())
        # Each column of the encoder would add the bias of the convolution once more.
        nothing = torch.zeros_like(encode.bias, dtype=torch.float64)
        columns = convolved(encode.weight.double().T) - convolved(nothing)
        layer = nn.Linear(encode.in_features, columns.shape[1], dtype=dtype)
        layer.weight.copy_(columns.T)
        layer.bias.copy_(bias[0])
    return layer.eval()


def batch_towers(cascade: Cascade) -> Iterator[Saving]:
    """Turn the linear layers of all towers into batched products, in place."""
    # This saves only calls: (T, R, in) times (T, in, out) in place of T products. It is meant for
    # GPUs, where each call has a cost; on a CPU, ONNX Runtime is mostly slower. See
    # docs/how-to/passes.md.
    network = cascade.classifier
    if network is None or network.joint is not None:
        return
    towers = [tower for tower in network.towers if isinstance(tower, LinearTower)]
    if len(towers) < 2 or len(towers) < len(network.towers):
        return
    layers = [_layers(tower) for tower in towers]
    if len({tuple(_shape(one) for one in own) for own in layers}) > 1:
        return
    joint = [_batch(same) for same in zip(*layers, strict=True)]
    network.joint = nn.Sequential(*joint).eval()
    for tower in towers:
        tower.embed = nn.Identity()
    products = [one for one in joint if isinstance(one, JointLinear)]
    weights = weights_of(*products)
    after = Work(multiplications=weights, weights=weights, products=len(products))
    before = replace(after, products=len(towers) * len(products))
    yield Saving(layer="joint", before=before, after=after)


def _layers(tower: LinearTower) -> list[nn.Module]:
    """Return the linear layers and ReLUs of a tower in order."""
    kept = [one for one in tower.embed.modules() if isinstance(one, nn.Linear | nn.ReLU)]
    return [*kept, nn.ReLU()]


def _shape(layer: nn.Module) -> tuple[int, ...]:
    return tuple(layer.weight.shape) if isinstance(layer, nn.Linear) else ()


def _batch(same: Sequence[nn.Module]) -> nn.Module:
    layers = [one for one in same if isinstance(one, nn.Linear)]
    if not layers:
        return nn.ReLU()
    first = layers[0]
    joint = JointLinear(len(layers), first.in_features, first.out_features).to(first.weight.dtype)
    with torch.no_grad():
        joint.weight.copy_(torch.stack([one.weight.T for one in layers]))
        joint.bias.copy_(torch.stack([_bias_of(one)[None] for one in layers]))
    return joint


PASSES: Mapping[str, Callable[[Cascade], Iterator[Saving]]] = {
    "fold-conv1x1": fold_conv1x1,
    "fold-encoder": fold_encoder,
    "batch-towers": batch_towers,
}
"""Passes by name, in the order in which they run, independent of the order of the names."""


def check_passes(names: Sequence[str]) -> None:
    """Check names of passes.

    Raises:
        OptionError: A name is not in ``PASSES``, or is given twice.
    """
    for number, name in enumerate(names):
        if name not in PASSES:
            remedy = f"use some of {', '.join(PASSES)}"
            raise OptionError(f"there is no pass {name!r}", remedy=remedy)
        if name in names[:number]:
            raise OptionError(f"the pass {name!r} is given twice", remedy="omit it once")


def run_passes(cascade: Cascade, names: Sequence[str]) -> list[dict[str, Any]]:
    """Run the named passes on a cascade, **in place**.

    Returns:
        For each change: the pass, the layer, and its cost before and after; see ``Work``.

    Raises:
        OptionError: A name is not in ``PASSES``.
    """
    check_passes(names)
    return [
        {"pass": name, **asdict(saving)}
        for name, run in PASSES.items()
        if name in names
        for saving in run(cascade)
    ]


def truncate_towers(network: MultiPathNet, ranks: Sequence[int]) -> None:
    """Replace each linear layer of all towers by two layers of a lower rank.

    Args:
        network: Detector to change. **Modified in place.** Its weights are read in float32.
        ranks: Rank for each linear layer of a tower in order, such as for fc6 and fc7.

    Raises:
        OptionError: The towers have no linear layers or another number of them; or a rank is not
            positive, or is so large that two layers would cost more than one.
    """
    towers = [tower for tower in network.towers if isinstance(tower, LinearTower)]
    if not towers:
        raise OptionError(
            "--svd truncates linear layers, and the towers of this network have none",
            remedy="export without --svd",
        )
    for tower in towers:
        if not isinstance(tower.embed, nn.Sequential):
            tower.embed = nn.Sequential(tower.embed)
        linear = _linear_layers(tower.embed)
        if len(linear) != len(ranks):
            raise OptionError(
                f"--svd has {counted(len(ranks), 'rank', 'ranks')}, and each tower has "
                f"{counted(len(linear), 'linear layer', 'linear layers')}",
                remedy=f"pass one rank per layer, {len(linear)} in all",
            )
        pairs = zip(linear, ranks, strict=True)
        for name, both in [(name, _factored(layer, rank)) for (name, layer), rank in pairs]:
            tower.embed.set_submodule(name, both)


def _factored(layer: nn.Linear, rank: int) -> nn.Sequential:
    # Girshick, "Fast R-CNN" (ICCV 2015), section 3.1: W (u x v) becomes S V^T (t x v, no bias) and
    # U (u x t, with the bias of W), without an activation between them, where U S V^T are the t
    # largest singular values of W and their vectors. The cost is t (u + v) in place of u v. The
    # pass is not exact: its effect on average precision has to be measured.
    rows, columns = layer.weight.shape
    limit = (rows * columns - 1) // (rows + columns)
    if not 1 <= rank <= limit:
        raise OptionError(
            f"--svd has the rank {rank} for a layer of {columns} inputs and {rows} outputs, "
            f"expected 1 to {limit}",
            remedy=f"pass at most {limit}: above that, two layers cost more than one",
        )
    with torch.no_grad():
        u, s, vt = torch.linalg.svd(layer.weight.float(), full_matrices=False)
        first = nn.Linear(columns, rank, bias=False)
        second = nn.Linear(rank, rows)
        first.weight.copy_(s[:rank, None] * vt[:rank])
        second.weight.copy_(u[:, :rank])
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)
