# SPDX-License-Identifier: Apache-2.0
"""ResNet up to its third stage: the trunk of the original DeepMask, SharpMask and MultiPathNet.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), as fb.resnet.torch builds it.
Parameters are named as in torchvision, except for ``affine1`` in place of ``bn1`` and ``shortcut``
in place of ``downsample``.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from foveate.models.layers import FrozenAffine, Padding, convolution, draw_weights
from foveate.models.trunk import IMAGENET, Normalization, Trunk


class ResidualBlock(nn.Module):
    """A block that computes relu(branch(x) + shortcut(x)).

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Stride of the block.
        affine_after_addition: Whether one affine map after the addition takes the place of those at
            the end of branch and shortcut, as in some published Torch7 files.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, affine_after_addition: bool):
        super().__init__()
        # A 1x1 convolution where the shape changes (option B of the paper).
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                _affine(outputs, present=not affine_after_addition),
            )
        self.affine_out = _affine(outputs, present=affine_after_addition)

    def branch(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to the residual, without a ReLU at its end."""
        raise NotImplementedError  # every kind of block has its own

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return torch.relu(self.affine_out(self.branch(x) + self.shortcut(x)))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions, as in ResNet-18; for the arguments see ``residual_stage``."""

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int, *, padding: Padding, affine_after_addition: bool
    ):
        super().__init__(inputs, width, stride, affine_after_addition=affine_after_addition)
        self.conv1 = convolution(inputs, width, 3, stride, padding=padding, bias=False)
        self.affine1 = FrozenAffine(width)
        self.conv2 = convolution(width, width, 3, padding=padding, bias=False)
        self.affine2 = _affine(width, present=not affine_after_addition)

    def branch(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to the residual."""
        x = torch.relu(self.affine1(self.conv1(x)))
        residual: Tensor = self.affine2(self.conv2(x))
        return residual


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions, as in ResNet-50; for the arguments see ``residual_stage``."""

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, *, padding: Padding, affine_after_addition: bool
    ):
        outputs = width * self.expansion
        super().__init__(inputs, outputs, stride, affine_after_addition=affine_after_addition)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.affine1 = FrozenAffine(width)
        # The stride is that of the 3x3 convolution, unlike in the first release of the paper.
        self.conv2 = convolution(width, width, 3, stride, padding=padding, bias=False)
        self.affine2 = FrozenAffine(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.affine3 = _affine(outputs, present=not affine_after_addition)

    def branch(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to the residual."""
        x = torch.relu(self.affine1(self.conv1(x)))
        x = torch.relu(self.affine2(self.conv2(x)))
        residual: Tensor = self.affine3(self.conv3(x))
        return residual


def _affine(channels: int, *, present: bool) -> nn.Module:
    return FrozenAffine(channels) if present else nn.Identity()


def residual_stage(
    block: type[BasicBlock | Bottleneck],
    inputs: int,
    width: int,
    blocks: int,
    stride: int,
    *,
    padding: Padding,
    affine_after_addition: bool,
) -> nn.Sequential:
    """Stack blocks of one size; only the first has the stride.

    Args:
        block: Class of the blocks.
        inputs: Channels of the input.
        width: Channels inside a block; its output has ``block.expansion`` times as many.
        blocks: Number of blocks.
        stride: Stride of the stage.
        padding: Padding of the convolutions that are larger than 1x1.
        affine_after_addition: Form of the blocks, see ``ResidualBlock``.

    Returns:
        Stage from maps (N, inputs, H, W) to (N, width * expansion, H / stride, W / stride).
    """
    make = partial(block, padding=padding, affine_after_addition=affine_after_addition)
    rest = (make(width * block.expansion, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(make(inputs, width, stride), *rest)


class ResNet(Trunk):
    """The stem and the stages, with maps of strides 2, 4, 8 and 16 for three stages.

    Sides that are not multiples of 16 are allowed: each halving rounds up.

    Args:
        block: Class of the blocks.
        depths: Number of blocks of each stage.
        width: Channels of the stem and inside the blocks of the first stage; each stage doubles
            them.
        padding: Padding of the convolutions; the max pooling of the stem ignores pixels outside.
        affine_after_addition: Form of the blocks, see ``ResidualBlock``.
        frozen_stages: Number of parts, stem first, that are not trained.
        normalization: Normalization that the weights were trained with.
    """

    def __init__(
        self,
        *,
        block: type[BasicBlock | Bottleneck],
        depths: Sequence[int],
        width: int,
        padding: Padding,
        affine_after_addition: bool,
        frozen_stages: int,
        normalization: Normalization,
    ):
        super().__init__()
        self.normalization = normalization
        self.channels = {2: width}
        self.conv1 = convolution(3, width, 7, 2, padding=padding, bias=False)
        self.affine1 = FrozenAffine(width)
        inputs = width
        for stage, blocks in enumerate(depths):
            layer = residual_stage(
                block,
                inputs,
                width << stage,
                blocks,
                stride=2 if stage else 1,
                padding=padding,
                affine_after_addition=affine_after_addition,
            )
            self.add_module(f"layer{stage + 1}", layer)
            inputs = (width << stage) * block.expansion
            self.channels[4 << stage] = inputs
        self._initialize()
        for frozen in [self.conv1, *self.stages][:frozen_stages]:
            frozen.requires_grad_(False)

    def _initialize(self) -> None:
        """Draw the weights as He et al. do, with small residuals."""
        blocks = [one for one in self.modules() if isinstance(one, BasicBlock | Bottleneck)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                draw_weights(module.weight)
        with torch.no_grad():
            # Batch norm is frozen, so residuals must start small to keep their sum small.
            for block in blocks:
                last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
                last.weight.mul_(len(blocks) ** -0.5)

    @property
    def stages(self) -> list[nn.Module]:
        """The stages ``layer1``, ``layer2`` and so on."""
        return [module for name, module in self.named_children() if name.startswith("layer")]

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the maps after the ReLU of the stem and after each stage; see ``Trunk``."""
        x = torch.relu(self.affine1(self.conv1(image)))
        features = {2: x}
        x = nn.functional.max_pool2d(x, 3, 2, padding=1)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            features[4 << index] = x
        return features


def resnet50(*, width: int = 64, affine_after_addition: bool = False) -> ResNet:
    """Build the trunk of the original DeepMask: ResNet-50 without its last stage, trained whole."""
    return ResNet(
        block=Bottleneck,
        depths=(3, 4, 6),
        width=width,
        padding="symmetric",
        affine_after_addition=affine_after_addition,
        frozen_stages=0,
        normalization=IMAGENET,
    )
