# SPDX-License-Identifier: Apache-2.0
"""What a pass did to a layer, counted from shapes."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Work:
    """What layers cost.

    Attributes:
        multiplications: with the additions that follow them, a window or box.
        weights: numbers that are read, whatever their type.
        products: matrix products and convolutions, each a call.
    """

    multiplications: int
    weights: int
    products: int

    def saves(self, before: Work) -> bool:
        """Tell whether it is less of something than before, and more of nothing."""
        pairs = list(zip(astuple(self), astuple(before), strict=True))
        return self != before and all(own <= former for own, former in pairs)


@dataclass(frozen=True, kw_only=True)
class Saving:
    """A change that a pass made.

    Attributes:
        layer: the module that was changed, as in `class_towers.3`.
        before: what it cost.
        after: what it costs now.
    """

    layer: str
    before: Work
    after: Work


def weights_of(*modules: nn.Module) -> int:
    """Count the elements of the weights of modules, without biases."""
    return sum(module.get_parameter("weight").numel() for module in modules)
