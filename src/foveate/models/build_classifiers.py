# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN in every size: one constructor call each, with all its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from foveate.models.efficientnet_lite import EfficientNetLite0
from foveate.models.multipathnet import MultiPathNet
from foveate.models.normalisation import CAFFE, IMAGENET_MULTIPATH
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
from foveate.models.vgg import VGG, VGG_16

FOVEA = ((1.0, 3), (1.5, 2), (2.0, 2), (4.0, 1))
"""Region of each classification tower, and how many maps it reads, from the coarsest on."""

BOX_REGION = (1.5, 3)
"""The same of the box tower."""


def multipathnet_mini(classes: int = 10) -> MultiPathNet:
    """MultiPathNet on EfficientNet-Lite0: 2.7 M parameters, 0.7 M of them shared."""
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
    """The MultiPathNet of the paper, on VGG-16: 624 M parameters for 80 classes.

    Args:
        classes: without background.
        width: channels of the trunk's first stage.
        mixed: outputs of the towers' 1x1 convolutions.
        hidden: width of each tower's fc6 and fc7.
        rounding: rule of ROI max pooling.
        box_tower: whether boxes are regressed from a tower of their own, the default of the
            released code, or from the four that classify.
        normalised: whether pooled maps are L2-normalised, the default of the released code. If not
            (`model_conv345_norm=false`), conv4 and conv3 are divided by 30 and 200, and the 1x1
            convolutions start as copies of conv5.
    """
    trunk = _vgg16(width, frozen_stages=5)

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
    """Fast R-CNN on VGG-16, what MultiPathNet is compared with: 134.7 M parameters for 20 classes.

    Girshick, "Fast R-CNN" (ICCV 2015). Arguments as of `multipathnet_vgg16`.
    """
    trunk = _vgg16(width, frozen_stages=2)
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


def multipathnet_resnet18(
    classes: int = 80,
    *,
    width: int = 64,
    affine_after_addition: bool = False,
    rounding: Rounding = "v2",
) -> MultiPathNet:
    """The released detector, with integral heads and one region: 11.6 M parameters.

    Args:
        classes: without background.
        width: channels of the trunk's stem.
        affine_after_addition: see `ResidualBlock`.
        rounding: rule of ROI max pooling.
    """
    return _multipathnet_resnet(
        BasicBlock, (2, 2, 2, 2), classes, width, affine_after_addition, rounding
    )


def multipathnet_resnet50(
    classes: int = 80,
    *,
    width: int = 64,
    affine_after_addition: bool = False,
    rounding: Rounding = "v2",
) -> MultiPathNet:
    """The same on ResNet-50: 25.1 M parameters. Arguments as of `multipathnet_resnet18`."""
    return _multipathnet_resnet(
        Bottleneck, (3, 4, 6, 3), classes, width, affine_after_addition, rounding
    )


def _multipathnet_resnet(
    block: type[BasicBlock | Bottleneck],
    depths: Sequence[int],
    classes: int,
    width: int,
    affine_after_addition: bool,
    rounding: Rounding,
) -> MultiPathNet:
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


def _vgg16(width: int, frozen_stages: int) -> VGG:
    return VGG(
        depths=VGG_16,
        widths=(width, 2 * width, 4 * width, 8 * width, 8 * width),
        frozen_stages=frozen_stages,
        normalisation=CAFFE,
    )


def _with_small_heads(network: MultiPathNet) -> MultiPathNet:
    """Start the heads as Fast R-CNN does: N(0, 0.01) for classes, N(0, 0.001) for boxes."""
    for head in network.class_heads:
        assert isinstance(head, nn.Linear)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    nn.init.normal_(network.box_head.weight, std=0.001)
    nn.init.zeros_(network.box_head.bias)
    return network
