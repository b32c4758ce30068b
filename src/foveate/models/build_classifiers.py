# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN in every size: one constructor call each, with all its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from foveate.models.efficientnet_lite import EfficientNetLite0
from foveate.models.multipathnet import MultiPathNet
from foveate.models.resnet import BasicBlock, Bottleneck, ResNet, residual_stage
from foveate.models.roi_max_pool import Rounding
from foveate.models.towers import (
    SKIP_FACTORS,
    LinearTower,
    RegionPooling,
    ResidualTower,
    l2_normalised,
    unit_root_mean_square,
)
from foveate.models.trunk import CAFFE, IMAGENET_MULTIPATH
from foveate.models.vgg import VGG, VGG_16

FOVEA = ((1.0, 3), (1.5, 2), (2.0, 2), (4.0, 1))
"""Region of each classification tower, and the number of maps that it reads, coarsest first."""

BOX_REGION = (1.5, 3)
"""Region and number of maps of the box tower."""


def multipathnet_mini(classes: int = 10) -> MultiPathNet:
    """Build MultiPathNet on EfficientNet-Lite0: 2.7 M parameters, 0.7 M of them shared."""
    trunk = EfficientNetLite0(last_stride=32)

    def tower(region: float, maps: int) -> LinearTower:
        strides = (32, 16, 8)[:maps]
        return LinearTower(
            pooling=RegionPooling(region=region, strides=strides, normalise=unit_root_mean_square),
            channels=sum(trunk.channels[stride] for stride in strides),
            mixed_channels=16,
            hidden=(96,),
        )

    return MultiPathNet(
        trunk=trunk,
        class_towers=[tower(*shape) for shape in FOVEA],
        box_tower=tower(*BOX_REGION),
        classes=classes,
    )


def multipathnet_vgg16(
    classes: int = 80,
    *,
    width: int = 64,
    mixed: int = 512,
    hidden: int = 4096,
    rounding: Rounding = "v2",
    box_tower: bool = True,
    normalised: bool = True,
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
        normalised: Whether pooled maps are L2-normalised, the default of the original code. If
            not (``model_conv345_norm=false``), conv4 and conv3 are divided by 30 and 200, and the
            1x1 convolutions start as copies of conv5.
    """
    trunk = VGG(depths=VGG_16, width=width, frozen_stages=5, normalisation=CAFFE)

    def tower(region: float, maps: int) -> LinearTower:
        strides = (16, 8, 4)[:maps]
        made = LinearTower(
            pooling=RegionPooling(
                region=region,
                strides=strides,
                normalise=l2_normalised if normalised else None,
                factors={} if normalised else SKIP_FACTORS,
                rounding=rounding,
            ),
            channels=sum(trunk.channels[stride] for stride in strides),
            mixed_channels=mixed,
            hidden=(hidden, hidden),
        )
        if not normalised:
            nn.init.dirac_(made.get_parameter("mix.weight"))  # conv5 is the first of the maps
        return made

    network = MultiPathNet(
        trunk=trunk,
        class_towers=[tower(*shape) for shape in FOVEA],
        box_tower=tower(*BOX_REGION) if box_tower else None,
        classes=classes,
    )
    return _with_small_heads(network)


def fast_rcnn_vgg16(
    classes: int = 20, *, width: int = 64, hidden: int = 4096, rounding: Rounding = "caffe"
) -> MultiPathNet:
    """Build Fast R-CNN on VGG-16, the baseline of MultiPathNet: 134.7 M parameters for 20 classes.

    Girshick, "Fast R-CNN" (ICCV 2015). For the arguments see ``multipathnet_vgg16``.
    """
    trunk = VGG(depths=VGG_16, width=width, frozen_stages=2, normalisation=CAFFE)
    network = MultiPathNet(
        trunk=trunk,
        class_towers=[
            LinearTower(
                pooling=RegionPooling(rounding=rounding),
                channels=trunk.channels[16],
                mixed_channels=None,
                hidden=(hidden, hidden),
            )
        ],
        box_tower=None,
        classes=classes,
        heads=1,
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
        normalisation=IMAGENET_MULTIPATH,
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
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    nn.init.normal_(network.box_head.weight, std=0.001)
    nn.init.zeros_(network.box_head.bias)
    return network
