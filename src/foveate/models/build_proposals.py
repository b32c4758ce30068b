# SPDX-License-Identifier: Apache-2.0
"""DeepMask and SharpMask in every size: one constructor call each, with all its numbers."""

from __future__ import annotations

from foveate.errors import ModelError
from foveate.models.deepmask import STRIDE, DeepMask, FeatureScore, VectorScore
from foveate.models.efficientnet_lite import EfficientNetLite0
from foveate.models.normalisation import IMAGENET
from foveate.models.refinement import Form
from foveate.models.resnet import Bottleneck, ResNet
from foveate.models.sharpmask import SharpMask
from foveate.models.vgg import VGG, VGG_A


def deepmask_mini() -> DeepMask:
    """DeepMask on EfficientNet-Lite0: 2.8 M parameters."""
    return DeepMask(
        trunk=EfficientNetLite0(last_stride=16),
        neck_channels=64,
        vector=256,
        score=VectorScore(256, hidden=256),
        mask_side=40,
    )


def deepmask_resnet50(
    *,
    width: int = 64,
    neck: int = 128,
    vector: int = 512,
    score_hidden: int = 1024,
    affine_after_addition: bool = False,
) -> DeepMask:
    """The released DeepMask, W160-P4-D39-F128 with head C: 17,333,121 parameters.

    Args:
        width: channels of the trunk's stem.
        neck: channels that the windows' linear layer reads.
        vector: length of a window's vector.
        score_hidden: width of the score head.
        affine_after_addition: see `ResidualBlock`.
    """
    return DeepMask(
        trunk=ResNet(
            block=Bottleneck,
            depths=(3, 4, 6),
            width=width,
            padding="symmetric",
            affine_after_addition=affine_after_addition,
            frozen_stages=0,
            normalisation=IMAGENET,
        ),
        neck_channels=neck,
        vector=vector,
        score=VectorScore(vector, hidden=score_hidden),
        mask_side=56,
        supervised_side=112,
    )


def deepmask_vgg(
    *,
    width: int = 64,
    neck: int = 512,
    vector: int = 512,
    score_hidden: int = 512,
) -> DeepMask:
    """The DeepMask of the first paper, on VGG-A with windows of 224 px: 75.8 M parameters.

    Args:
        width: channels of the trunk's first stage.
        neck: channels that the windows' linear layer reads.
        vector: length of a window's vector.
        score_hidden: width of the score head's first hidden layer; the second has twice as many.
    """
    return DeepMask(
        trunk=VGG(
            depths=VGG_A,
            widths=(width, 2 * width, 4 * width, 8 * width, 8 * width),
            frozen_stages=0,
            normalisation=IMAGENET,
        ),
        neck_channels=neck,
        vector=vector,
        score=FeatureScore(8 * width, cells=224 // STRIDE, hidden=(score_hidden, 2 * score_hidden)),
        mask_side=56,
        supervised_side=224,
        window=224,
        context=0,
    )


def sharpmask_mini() -> SharpMask:
    """SharpMask on the mini DeepMask: 0.5 M parameters more."""
    return SharpMask(
        deepmask=deepmask_mini(),
        reduced_channels=((32,), (24,), (16,), (8,)),
        encoding_channels=(16, 16, 8, 8, 4),
        form="paper",
        padding="zeros",
    )


def sharpmask_resnet50(
    *,
    km: int = 32,
    ks: int = 32,
    form: Form = "released",
    width: int = 64,
    neck: int = 128,
    vector: int = 512,
    score_hidden: int = 1024,
    affine_after_addition: bool = False,
) -> SharpMask:
    """SharpMask on the released DeepMask: 2,750,535 parameters more.

    Args:
        km: channels of the first mask encoding; every module halves them.
        ks: channels of the first skip features, as the paper's equation names them; as `km`.
        form: "paper" or "released", see `Refinement`.
        width: see `deepmask_resnet50`, as all that follow.
        neck: see there.
        vector: see there.
        score_hidden: see there.
        affine_after_addition: see there.

    Raises:
        ModelError: `km` or `ks` is no multiple of 16.
    """
    if km % 16 or ks % 16:
        raise ModelError(
            f"km and ks must be multiples of 16, found {km} and {ks}",
            remedy="use 32, as the paper does",
        )
    return SharpMask(
        deepmask=deepmask_resnet50(
            width=width,
            neck=neck,
            vector=vector,
            score_hidden=score_hidden,
            affine_after_addition=affine_after_addition,
        ),
        reduced_channels=((64, ks), (64, ks // 2), (64, ks // 4), (32, ks // 8)),
        encoding_channels=(km, km // 2, km // 4, km // 8, km // 16),
        form=form,
        padding="symmetric",
    )
