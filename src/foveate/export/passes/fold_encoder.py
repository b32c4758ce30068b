# SPDX-License-Identifier: Apache-2.0
"""SharpMask's first mask encoding, folded into the convolution behind it.

Pinheiro et al., "Learning to Refine Object Segments" (ECCV 2016): a linear layer makes a map of a
window's vector, without an activation, and the first refinement module convolves it. Both are
linear, padding too, so one linear layer gives what the convolution gave. Its columns are the
convolved columns of the former one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from foveate.export.passes.saving import Saving, Work, weights_of
from foveate.models.checkpoint import Cascade
from foveate.models.sharpmask import SharpMask


def fold_encoder(cascade: Cascade) -> Iterator[Saving]:
    """Fold in place, where the linear layer gets no larger than both were."""
    network = cascade.proposals
    if not isinstance(network, SharpMask):
        return
    module = network.coarse_to_fine[0]
    convolution = _first(module.vertical)
    encode, cells = network.encode, network.cells**2
    if convolution is None:
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
    network.encode = _folded(encode, convolution, network.cells)
    if isinstance(module.vertical, nn.Sequential):
        module.vertical[0] = nn.Identity()
    else:
        module.vertical = nn.Identity()
    yield Saving(layer="encode", before=before, after=after)


def _first(vertical: nn.Module) -> nn.Conv2d | None:
    """Return the convolution that reads the encoding, unless it has been folded."""
    first = vertical[0] if isinstance(vertical, nn.Sequential) else vertical
    return first if isinstance(first, nn.Conv2d) else None


def _folded(encode: nn.Linear, convolution: nn.Conv2d, side: int) -> nn.Linear:
    """Convolve the columns of a linear layer, each a map of `side` cells a side, in float64."""

    def convolved(maps: Tensor) -> Tensor:
        found: Tensor = convolution(maps.reshape(-1, convolution.in_channels, side, side))
        return found.flatten(1)

    dtype = encode.weight.dtype
    with torch.no_grad():
        convolution = convolution.double()
        bias = convolved(encode.bias.double())
        # What is left of a column without the convolution's bias.
        columns = convolved(encode.weight.double().T) - convolved(
            torch.zeros_like(encode.bias, dtype=torch.float64)
        )
        layer = nn.Linear(encode.in_features, columns.shape[1], dtype=dtype)
        layer.weight.copy_(columns.T)
        layer.bias.copy_(bias[0])
    return layer.eval()
