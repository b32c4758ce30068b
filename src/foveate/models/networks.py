# SPDX-License-Identifier: Apache-2.0
"""The networks in every size: one constructor call each, with all its numbers."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from foveate.errors import ModelError
from foveate.models.deepmask import STRIDE, WINDOW, DeepMask, FeatureScore, VectorScore
from foveate.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Continuation
from foveate.models.layers import draw_weights
from foveate.models.multipathnet import (
    SKIP_FACTORS,
    LinearTower,
    MultiPathNet,
    RegionPooling,
    ResidualTower,
    l2_normalized,
    unit_root_mean_square,
)
from foveate.models.resnet import BasicBlock, Bottleneck, ResNet, residual_stage
from foveate.models.roi_max_pool import Rounding
from foveate.models.sharpmask import Form, SharpMask
from foveate.models.trunk import CAFFE, IMAGENET, IMAGENET_MULTIPATH, Continuation, Trunk
from foveate.models.vgg import VGG, VGG_16, VGG_A

FOVEA = ((1.0, 3), (1.5, 2), (2.0, 2), (4.0, 1))
"""Region of each classification tower, and the number of maps that it reads, coarsest first."""

BOX_REGION = (1.5, 3)
"""Region and number of maps of the box tower."""


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


def deepmask_mini(*, vector: int = 256, border: int = WINDOW // 2) -> DeepMask:
    """Build DeepMask on EfficientNet-Lite0: 2.8 M parameters.

    Args:
        vector: Length of the vector of a window. That of the shipped `mini` was shortened to 64.
        border: Pixels of fill around an image; 48 in the shipped `mini`.
    """
    return DeepMask(
        trunk=EfficientNetLite0(last_stride=16),
        neck_channels=64,
        vector=vector,
        score=VectorScore(vector, hidden=256),
        mask_side=40,
        border=border,
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
        trunk=VGG(depths=VGG_A, width=width, frozen_stages=0, normalization=IMAGENET),
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

    ``km`` and ``ks``, multiples of 16, are the channels of the first mask encoding and of the first
    skip features in the equation of the paper; each module halves them. For ``form`` see
    ``Refinement``. The rest are sizes of ``deepmask``.

    Raises:
        ModelError: The trunk has no map for a refinement; see ``SharpMask``.
    """
    if km % 16 or ks % 16:
        what = f"km and ks must be multiples of 16, found {km} and {ks}"
        raise ModelError(what, remedy="use 32, as the paper does")
    return SharpMask(
        deepmask=deepmask(trunk, neck=neck, vector=vector, score_hidden=score_hidden),
        reduced_channels=((64, ks), (64, ks // 2), (64, ks // 4), (32, ks // 8)),
        encoding_channels=(km, km // 2, km // 4, km // 8, km // 16),
        form=form,
        padding="symmetric",
    )


def sharpmask_mini(*, vector: int = 256, border: int = WINDOW // 2) -> SharpMask:
    """Build SharpMask on ``deepmask_mini``, which has these sizes: 0.5 M parameters more."""
    return SharpMask(
        deepmask=deepmask_mini(vector=vector, border=border),
        reduced_channels=((32,), (24,), (16,), (8,)),
        encoding_channels=(16, 16, 8, 8, 4),
        form="paper",
        padding="zeros",
    )


def multipathnet_mini(classes: int = 10) -> MultiPathNet:
    """Build MultiPathNet on the trunk of ``sharpmask_mini``: 2.1 M parameters of its own."""
    trunk = EfficientNetLite0Continuation()
    return _foveal(trunk, classes, mixed=16, hidden=[96], normalize=unit_root_mean_square)


def multipathnet(
    trunk: Trunk, classes: int = 80, *, mixed: int = 128, hidden: int = 1024
) -> MultiPathNet:
    """Build MultiPathNet with the five towers of the paper on the coarsest maps of any trunk.

    Args:
        trunk: Trunk with at least three maps.
        classes: Number of classes without background.
        mixed: Output channels of the 1x1 convolutions of the towers.
        hidden: Width of the embedding of each tower.

    Raises:
        ModelError: The trunk has fewer than three maps.
    """
    network = _foveal(trunk, classes, mixed=mixed, hidden=[hidden], normalize=unit_root_mean_square)
    return _with_small_heads(network)


def _foveal(
    trunk: Trunk | Continuation,
    classes: int,
    *,
    mixed: int,
    hidden: Sequence[int],
    box_tower: bool = True,
    **pooling: Any,
) -> MultiPathNet:
    """Build the towers of the paper on the coarsest maps; ``pooling`` as in ``RegionPooling``."""
    coarsest = sorted(trunk.channels, reverse=True)[:3]
    if len(coarsest) < 3:
        found = ", ".join(map(str, trunk.channels))
        what = f"MultiPathNet reads three maps, and the trunk has those of strides {found}"
        raise ModelError(what, remedy="use a trunk with more stages")

    def tower(region: float, maps: int) -> LinearTower:
        strides = tuple(coarsest[:maps])
        return LinearTower(
            pooling=RegionPooling(region=region, strides=strides, **pooling),
            channels=sum(trunk.channels[stride] for stride in strides),
            mixed_channels=mixed,
            hidden=hidden,
        )

    towers, box = [tower(*shape) for shape in FOVEA], tower(*BOX_REGION) if box_tower else None
    return MultiPathNet(trunk=trunk, class_towers=towers, box_tower=box, classes=classes)


def multipathnet_vgg16(
    classes: int = 80,
    *,
    width: int = 64,
    mixed: int = 512,
    hidden: int = 4096,
    rounding: Rounding = "v2",
    box_tower: bool = True,
    normalised: bool = True,  # spelled as in checkpoints, which store it
) -> MultiPathNet:
    """Build the MultiPathNet of the paper, on VGG-16: 624 M parameters for 80 classes.

    Args:
        classes: Number of classes without background.
        width: Channels of the first stage of the trunk.
        mixed: Output channels of the 1x1 convolutions of the towers.
        hidden: Width of fc6 and fc7 of each tower.
        rounding: Rounding rule of ROI max pooling.
        box_tower: Whether boxes are regressed from a tower of their own, the default of the
            original code, or from the four towers that classify.
        normalised: Whether pooled maps are L2-normalized, the default of the original code. If
            not (``model_conv345_norm=false``), conv4 and conv3 are divided by 30 and 200, and the
            1x1 convolutions start as copies of conv5.
    """
    network = _foveal(
        VGG(depths=VGG_16, width=width, frozen_stages=5, normalization=CAFFE),
        classes,
        mixed=mixed,
        hidden=[hidden, hidden],
        box_tower=box_tower,
        normalize=l2_normalized if normalised else None,
        factors={} if normalised else SKIP_FACTORS,
        rounding=rounding,
    )
    if not normalised:
        for tower in network.towers:
            nn.init.dirac_(tower.get_parameter("mix.weight"))  # conv5 is the first of the maps
    return _with_small_heads(network)


def fast_rcnn_vgg16(
    classes: int = 20, *, width: int = 64, hidden: int = 4096, rounding: Rounding = "caffe"
) -> MultiPathNet:
    """Build Fast R-CNN on VGG-16, the baseline of MultiPathNet: 134.7 M parameters for 20 classes.

    Girshick, "Fast R-CNN" (ICCV 2015). For the arguments see ``multipathnet_vgg16``.
    """
    trunk = VGG(depths=VGG_16, width=width, frozen_stages=2, normalization=CAFFE)
    tower = LinearTower(
        pooling=RegionPooling(rounding=rounding),
        channels=trunk.channels[16],
        mixed_channels=None,
        hidden=(hidden, hidden),
    )
    network = MultiPathNet(
        trunk=trunk, class_towers=[tower], box_tower=None, classes=classes, heads=1
    )
    return _with_small_heads(network)


def multipathnet_resnet(
    block: type[BasicBlock | Bottleneck],
    depths: Sequence[int],
    classes: int = 80,
    *,
    width: int = 64,
    affine_after_addition: bool = False,
    rounding: Rounding = "v2",
) -> MultiPathNet:
    """Build the original detector, with integral heads and one region.

    On ResNet-18 it has 11.6 M parameters, on ResNet-50 25.1 M.

    Args:
        block: Class of the blocks.
        depths: Number of blocks of each of the four stages; the last stage is the tower.
        classes: Number of classes without background.
        width: Channels of the stem of the trunk.
        affine_after_addition: Form of the blocks, see ``ResidualBlock``.
        rounding: Rounding rule of ROI max pooling.
    """
    trunk = ResNet(
        block=block,
        depths=depths[:3],
        width=width,
        padding="zeros",
        affine_after_addition=affine_after_addition,
        frozen_stages=2,
        normalization=IMAGENET_MULTIPATH,
    )
    tower = ResidualTower(
        pooling=RegionPooling(side=14, rounding=rounding),
        stage=residual_stage(
            block,
            trunk.channels[16],
            8 * width,
            depths[3],
            stride=2,
            padding="zeros",
            affine_after_addition=affine_after_addition,
        ),
        outputs=8 * width * block.expansion,
    )
    network = MultiPathNet(trunk=trunk, class_towers=[tower], box_tower=None, classes=classes)
    return _with_small_heads(network)


def _with_small_heads(network: MultiPathNet) -> MultiPathNet:
    """Start the heads as Fast R-CNN does: N(0, 0.01) for classes, N(0, 0.001) for boxes."""
    for head in network.class_heads:
        assert isinstance(head, nn.Linear)
        draw_weights(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    draw_weights(network.box_head.weight, std=0.001)
    nn.init.zeros_(network.box_head.bias)
    return network
