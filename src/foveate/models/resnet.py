# SPDX-License-Identifier: Apache-2.0
"""ResNet up to its third stage: the trunk of the released DeepMask, SharpMask and MultiPathNet.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), as fb.resnet.torch builds it:
the stride sits on the 3x3 convolution, a shortcut is a 1x1 convolution where the shape changes.
Convolutions have no bias; batch norm is a fixed affine map (`FrozenAffine`).

Parameters are named as in torchvision, but `affine1` for `bn1` and `shortcut` for `downsample`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foveate.models.frozen_affine import FrozenAffine
from foveate.models.normalisation import Normalisation
from foveate.models.symmetric_padding import Padding, convolution
from foveate.models.trunk import Trunk


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)).

    Some published Torch7 files normalise behind the addition, in place of the end of both summands:
    `affine_out` is then an affine map, and the summands' own are identities.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the block.
        affine_after_addition: build the form with the affine map behind the addition.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, affine_after_addition: bool):
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                _affine(outputs, present=not affine_after_addition),
            )
        self.affine_out = _affine(outputs, present=affine_after_addition)

    def branch(self, x: Tensor) -> Tensor:
        """Compute the residual, without a ReLU at its end."""
        raise NotImplementedError  # every kind of block has its own

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The convolution at the end of the branch."""
        raise NotImplementedError  # every kind of block has its own

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return torch.relu(self.affine_out(self.branch(x) + self.shortcut(x)))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions, of ResNet-18 and 34. See `ResidualBlock` and `residual_stage`."""

    expansion = 1

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        *,
        padding: Padding,
        affine_after_addition: bool,
    ):
        super().__init__(inputs, width, stride, affine_after_addition=affine_after_addition)
        self.conv1 = convolution(inputs, width, 3, stride, padding=padding, bias=False)
        self.affine1 = FrozenAffine(width)
        self.conv2 = convolution(width, width, 3, padding=padding, bias=False)
        self.affine2 = _affine(width, present=not affine_after_addition)

    def branch(self, x: Tensor) -> Tensor:
        """Compute the residual."""
        x = torch.relu(self.affine1(self.conv1(x)))
        residual: Tensor = self.affine2(self.conv2(x))
        return residual

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The convolution at the end of the branch."""
        return self.conv2


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions, of ResNet-50. See `ResidualBlock` and `residual_stage`."""

    expansion = 4

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        *,
        padding: Padding,
        affine_after_addition: bool,
    ):
        outputs = width * self.expansion
        super().__init__(inputs, outputs, stride, affine_after_addition=affine_after_addition)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.affine1 = FrozenAffine(width)
        self.conv2 = convolution(width, width, 3, stride, padding=padding, bias=False)
        self.affine2 = FrozenAffine(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.affine3 = _affine(outputs, present=not affine_after_addition)

    def branch(self, x: Tensor) -> Tensor:
        """Compute the residual."""
        x = torch.relu(self.affine1(self.conv1(x)))
        x = torch.relu(self.affine2(self.conv2(x)))
        residual: Tensor = self.affine3(self.conv3(x))
        return residual

    @property
    def last_convolution(self) -> nn.Conv2d:
        """The convolution at the end of the branch."""
        return self.conv3


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
        block: `BasicBlock` or `Bottleneck`.
        inputs: channels of the input.
        width: channels inside a block; `block.expansion` times as many leave it.
        blocks: how many.
        stride: of the stage.
        padding: of the convolutions that are larger than 1x1.
        affine_after_addition: see `ResidualBlock`.
    """
    outputs = width * block.expansion
    return nn.Sequential(
        *(
            block(
                outputs if index else inputs,
                width,
                1 if index else stride,
                padding=padding,
                affine_after_addition=affine_after_addition,
            )
            for index in range(blocks)
        )
    )


class ResNet(Trunk):
    """The stem and three stages, taps at strides 2, 4, 8 and 16.

    Sides that are no multiple of 16 are allowed: each halving rounds up.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks of the three stages.
        width: channels of the stem, and inside the first stage's blocks; each stage doubles them.
        padding: of the convolutions; the max pooling of the stem always ignores what is outside.
        affine_after_addition: see `ResidualBlock`.
        frozen_stages: of stem and stages, how many from the front are not trained.
        normalisation: what the weights were trained with.
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
        normalisation: Normalisation,
    ):
        super().__init__()
        self.normalisation = normalisation
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
        self._initialise()
        for frozen in [self.conv1, *self.stages][:frozen_stages]:
            frozen.requires_grad_(False)

    def _initialise(self) -> None:
        """He's initialisation; without batch norm, residuals would add up if they were not small."""
        blocks = [module for module in self.modules() if isinstance(module, ResidualBlock)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        with torch.no_grad():
            for block in blocks:
                block.last_convolution.weight.mul_(len(blocks) ** -0.5)

    @property
    def stages(self) -> list[nn.Module]:
        """`layer1`, `layer2` and so on."""
        return [module for name, module in self.named_children() if name.startswith("layer")]

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the features: behind the stem's ReLU, and behind each stage."""
        x = torch.relu(self.affine1(self.conv1(image)))
        features = {2: x}
        x = nn.functional.max_pool2d(x, 3, 2, padding=1)
        for index, stage in enumerate(self.stages):
            x = stage(x)
            features[4 << index] = x
        return features
