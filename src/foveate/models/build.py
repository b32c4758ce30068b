# SPDX-License-Identifier: Apache-2.0
"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from foveate.errors import ModelError
from foveate.models.build_classifiers import (
    fast_rcnn_vgg16,
    multipathnet_mini,
    multipathnet_resnet18,
    multipathnet_resnet50,
    multipathnet_vgg16,
)
from foveate.models.build_proposals import (
    deepmask_mini,
    deepmask_resnet50,
    deepmask_vgg,
    sharpmask_mini,
    sharpmask_resnet50,
)

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "deepmask-mini": deepmask_mini,
    "deepmask-resnet50": deepmask_resnet50,
    "deepmask-vgg": deepmask_vgg,
    "sharpmask-mini": sharpmask_mini,
    "sharpmask-resnet50": sharpmask_resnet50,
    "multipathnet-mini": multipathnet_mini,
    "multipathnet-resnet18": multipathnet_resnet18,
    "multipathnet-resnet50": multipathnet_resnet50,
    "multipathnet-vgg16": multipathnet_vgg16,
    "fast-rcnn-vgg16": fast_rcnn_vgg16,
}


def build(name: str, **sizes: int | str) -> nn.Module:
    """Build a network, its weights at random.

    Args:
        name: a key of `BUILDERS`.
        sizes: arguments of its builder, such as `classes` of a MultiPathNet; those left out have
            the published values.

    Raises:
        ModelError: no network has this name, or it has no such size, or not with this value.
    """
    if name not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        raise ModelError(f"no network is named {name!r}", remedy=f"use one of {known}")
    allowed = inspect.signature(BUILDERS[name]).parameters
    for size in sizes:
        if size not in allowed:
            known = ", ".join(allowed) or "no size at all"
            raise ModelError(f"{name} takes no size {size!r}", remedy=f"it takes {known}")
    try:
        return BUILDERS[name](**sizes)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{size} {value!r}" for size, value in sizes.items())
        raise ModelError(
            f"{name} cannot be built with {given}", remedy="widths are whole numbers above 0"
        ) from error
