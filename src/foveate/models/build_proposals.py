# SPDX-License-Identifier: Apache-2.0
"""DeepMask and SharpMask in every size: one constructor call each, with all its numbers."""

from __future__ import annotations

from foveate.errors import ModelError
from foveate.models.deepmask import STRIDE, DeepMask, FeatureScore, VectorScore
from foveate.models.efficientnet_lite import EfficientNetLite0
from foveate.models.sharpmask import Form, SharpMask
from foveate.models.trunk import IMAGENET, Trunk
from foveate.models.vgg import VGG, VGG_A


def deepmask(
    trunk: Trunk, *, neck: int = 128, vector: int = 512, score_hidden: int = 1024
) -> DeepMask:
    """Build DeepMask with head C, in the sizes of the original network, on any trunk.

    On ResNet-50 it is the original W160-P4-D39-F128: 17,333,121 parameters.

    Args:
        trunk: Trunk with a map of stride 16.
        neck: Channels that the linear layer of a window reads.
        vector: Length of the vector of a window.
        score_hidden: Width of the score head.
    """
    return DeepMask(
        trunk=trunk,
        neck_channels=neck,
        vector=vector,
        score=VectorScore(vector, hidden=score_hidden),
        mask_side=56,
        supervised_side=112,
    )


def deepmask_mini() -> DeepMask:
    """Build DeepMask on EfficientNet-Lite0: 2.8 M parameters."""
    return DeepMask(
        trunk=EfficientNetLite0(last_stride=16),
        neck_channels=64,
        vector=256,
        score=VectorScore(256, hidden=256),
        mask_side=40,
    )


def deepmask_vgg(
    *, width: int = 64, neck: int = 512, vector: int = 512, score_hidden: int = 512
) -> DeepMask:
    """Build the DeepMask of the first paper, on VGG-A with windows of 224 px: 75.8 M parameters.

    Args:
        width: Channels of the first stage of the trunk.
        neck: Channels that the linear layer of a window reads.
        vector: Length of the vector of a window.
        score_hidden: Width of the first hidden layer of the score head; the second has twice as
            many channels.
    """
    return DeepMask(
        trunk=VGG(depths=VGG_A, width=width, frozen_stages=0, normalisation=IMAGENET),
        neck_channels=neck,
        vector=vector,
        score=FeatureScore(8 * width, cells=224 // STRIDE, hidden=(score_hidden, 2 * score_hidden)),
        mask_side=56,
        supervised_side=224,
        window=224,
        context=0,
    )


def sharpmask(
    trunk: Trunk,
    *,
    km: int = 32,
    ks: int = 32,
    form: Form = "released",
    neck: int = 128,
    vector: int = 512,
    score_hidden: int = 1024,
) -> SharpMask:
    """Build SharpMask on ``deepmask``: 2,750,535 parameters more on ResNet-50.

    Args:
        trunk: Trunk with maps of strides 2, 4, 8 and 16.
        km: Channels of the first mask encoding; each module halves them.
        ks: Channels of the first skip features in the equation of the paper; each module halves
            them.
        form: Form of the refinement, see ``Refinement``.
        neck: Size of ``deepmask``.
        vector: Size of ``deepmask``.
        score_hidden: Size of ``deepmask``.

    Raises:
        ModelError: ``km`` or ``ks`` is not a multiple of 16.
    """
    if km % 16 or ks % 16:
        raise ModelError(
            f"km and ks must be multiples of 16, found {km} and {ks}",
            remedy="use 32, as the paper does",
        )
    return SharpMask(
        deepmask=deepmask(trunk, neck=neck, vector=vector, score_hidden=score_hidden),
        reduced_channels=((64, ks), (64, ks // 2), (64, ks // 4), (32, ks // 8)),
        encoding_channels=(km, km // 2, km // 4, km // 8, km // 16),
        form=form,
        padding="symmetric",
    )


def sharpmask_mini() -> SharpMask:
    """Build SharpMask on the DeepMask of ``mini``: 0.5 M parameters more."""
    return SharpMask(
        deepmask=deepmask_mini(),
        reduced_channels=((32,), (24,), (16,), (8,)),
        encoding_channels=(16, 16, 8, 8, 4),
        form="paper",
        padding="zeros",
    )
