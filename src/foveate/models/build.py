# SPDX-License-Identifier: Apache-2.0
"""The registry of networks: from a name and sizes to a network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature

from torch import nn

from foveate.errors import ModelError
from foveate.models.networks import (
    deepmask,
    deepmask_mini,
    deepmask_vgg,
    fast_rcnn_vgg16,
    multipathnet,
    multipathnet_mini,
    multipathnet_resnet,
    multipathnet_vgg16,
    sharpmask,
    sharpmask_mini,
)
from foveate.models.resnet import BasicBlock, Bottleneck, resnet50
from foveate.models.timm_trunk import PREFIX, TimmTrunk
from foveate.models.trunk import Trunk


@dataclass(frozen=True)
class Builder:
    """A function that builds a network, and one that builds its trunk if the trunk is exchangeable.

    Args:
        network: Function of the sizes of the network; the trunk is its first argument, if there is
            one.
        trunk: Function of the sizes of the trunk, or ``None`` if ``network`` builds its own.
    """

    network: Callable[..., nn.Module]
    trunk: Callable[..., Trunk] | None = None

    @property
    def trunk_sizes(self) -> list[str]:
        """The names of the sizes that the trunk takes."""
        return [] if self.trunk is None else list(signature(self.trunk).parameters)

    @property
    def sizes(self) -> list[str]:
        """The names of all sizes, those of the trunk first."""
        own = list(signature(self.network).parameters)
        return own if self.trunk is None else [*self.trunk_sizes, *own[1:]]

    def __call__(self, **sizes: int | str) -> nn.Module:
        """Build the network, with its published sizes where none is given."""
        if self.trunk is None:
            return self.network(**sizes)
        trunk = self.trunk(**{name: sizes.pop(name) for name in self.trunk_sizes if name in sizes})
        return self.network(trunk, **sizes)


def on_trunk(name: str, trunk: Callable[..., Trunk]) -> dict[str, Builder]:
    """Return the networks that can be built on any trunk, by name.

    Args:
        name: Name of the trunk, the second part of the names of the networks.
        trunk: Class or function that builds it, with maps of strides 2, 4, 8 and 16.
    """
    return {
        f"deepmask-{name}": Builder(deepmask, trunk),
        f"sharpmask-{name}": Builder(sharpmask, trunk),
    }


BUILDERS: dict[str, Builder] = {
    # One line per trunk; the networks below have numbers that fit one trunk alone.
    **on_trunk("resnet50", resnet50),
    "deepmask-mini": Builder(deepmask_mini),
    "deepmask-vgg": Builder(deepmask_vgg),
    "sharpmask-mini": Builder(sharpmask_mini),
    "multipathnet-mini": Builder(multipathnet_mini),
    "multipathnet-resnet18": Builder(partial(multipathnet_resnet, BasicBlock, (2, 2, 2, 2))),
    "multipathnet-resnet50": Builder(partial(multipathnet_resnet, Bottleneck, (3, 4, 6, 3))),
    "multipathnet-vgg16": Builder(multipathnet_vgg16),
    "fast-rcnn-vgg16": Builder(fast_rcnn_vgg16),
}


# Networks of a trunk of timm, with the largest stride of the maps that they read.
ON_TIMM: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "deepmask": (deepmask, 16),
    "sharpmask": (sharpmask, 16),
    "multipathnet": (multipathnet, 32),
}


def _builder(name: str) -> Builder:
    family, _, model = name.partition(f"-{PREFIX}")
    if model and family in ON_TIMM:
        network, last_stride = ON_TIMM[family]
        return Builder(network, lambda: TimmTrunk(model, last_stride=last_stride))
    if name not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        on_timm = ", ".join(f"{family}-{PREFIX}NAME" for family in ON_TIMM)
        remedy = f"use one of {known}, or with a model of timm {on_timm}"
        raise ModelError(f"no network is named {name!r}", remedy=remedy)
    return BUILDERS[name]


def build(name: str, /, **sizes: int | str) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: Name of the network: a key of ``BUILDERS``, or with a model of timm as the trunk, a
            key of ``ON_TIMM`` and the name of the model, as ``deepmask-timm:resnet18``.
        sizes: Arguments of its builder, such as ``classes`` of a MultiPathNet; those that are left
            out have the published values.

    Raises:
        ModelError: There is no network of this name, or it does not take such a size or value, or
            its trunk is unsuitable; see ``TimmTrunk``.
        BackendError: The network needs timm, which is not installed or cannot be imported.
    """
    builder = _builder(name)
    for size in sizes:
        if size not in builder.sizes:
            known = ", ".join(builder.sizes)
            raise ModelError(f"{name} takes no size {size!r}", remedy=f"it takes {known}")
    try:
        return builder(**sizes)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{size} {value!r}" for size, value in sizes.items())
        what = f"{name} cannot be built with {given}"
        raise ModelError(what, remedy="widths are whole numbers above 0") from error


def first_misfit(error: RuntimeError) -> str:
    """Return the first weight in an error of ``load_state_dict``, which lists one per line."""
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[min(1, len(lines) - 1)]
