# SPDX-License-Identifier: Apache-2.0
"""Networks by name: every size is one constructor call that shows all its numbers."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from foveate.errors import ModelError
from foveate.models.deepmask import DeepMask
from foveate.models.efficientnet_lite import CHANNELS, EfficientNetLite0
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask


def deepmask_mini() -> DeepMask:
    """DeepMask on EfficientNet-Lite0: 2.8 M parameters."""
    return DeepMask(
        trunk=EfficientNetLite0(last_stride=16),
        trunk_channels=CHANNELS[16],
        neck_channels=64,
        vector=256,
        score_hidden=256,
        mask_side=40,
    )


def sharpmask_mini() -> SharpMask:
    """SharpMask on the mini DeepMask: 0.5 M parameters more."""
    return SharpMask(
        deepmask=deepmask_mini(),
        skip_channels=(CHANNELS[16], CHANNELS[8], CHANNELS[4], CHANNELS[2]),
        reduced_channels=(32, 24, 16, 8),
        encoding_channels=(16, 16, 8, 8, 4),
    )


def multipathnet_mini(classes: int = 10) -> MultiPathNet:
    """MultiPathNet on EfficientNet-Lite0: 2.7 M parameters, 0.7 M of them shared."""
    return MultiPathNet(
        trunk=EfficientNetLite0(last_stride=32),
        channels={stride: CHANNELS[stride] for stride in (8, 16, 32)},
        classes=classes,
        pooled_side=7,
        mixed_channels=16,
        hidden=96,
    )


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "deepmask-mini": deepmask_mini,
    "sharpmask-mini": sharpmask_mini,
    "multipathnet-mini": multipathnet_mini,
}


def build(name: str, **sizes: int) -> nn.Module:
    """Build a network, its weights at random.

    Args:
        name: a key of `BUILDERS`.
        sizes: what its builder takes beside its name: `classes` for a MultiPathNet.

    Raises:
        ModelError: no network has this name.
    """
    if name not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        raise ModelError(f"no network is named {name!r}", remedy=f"use one of {known}")
    return BUILDERS[name](**sizes)
