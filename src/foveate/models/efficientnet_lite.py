# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0: the trunk of the ``mini`` networks, frozen in all three systems.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), table
1, in the Lite variant of TensorFlow: ReLU6 in place of swish, no squeeze-and-excitation.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from foveate.models.trunk import EFFICIENTNET_LITE, Continuation, Trunk

BATCH_NORM_EPSILON = 1e-3
"""The default of TensorFlow, with which the ImageNet weights were trained."""


class BlockShape(NamedTuple):
    """The numbers of one inverted residual block."""

    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


BLOCKS = (
    BlockShape(3, 1, 1, 32, 16),  # stride 2
    BlockShape(3, 2, 6, 16, 24),
    BlockShape(3, 1, 6, 24, 24),  # stride 4
    BlockShape(5, 2, 6, 24, 40),
    BlockShape(5, 1, 6, 40, 40),  # stride 8
    BlockShape(3, 2, 6, 40, 80),
    BlockShape(3, 1, 6, 80, 80),
    BlockShape(3, 1, 6, 80, 80),
    BlockShape(5, 1, 6, 80, 112),
    BlockShape(5, 1, 6, 112, 112),
    BlockShape(5, 1, 6, 112, 112),  # stride 16
    BlockShape(5, 2, 6, 112, 192),
    BlockShape(5, 1, 6, 192, 192),
    BlockShape(5, 1, 6, 192, 192),
    BlockShape(5, 1, 6, 192, 192),  # stride 32
    # The last block, 192 to 320 channels, is left out: a linear probe on pooled features of unseen
    # cut-outs was right as often without it (67 % at 150 px) as with it (66 %).
)

TAPS = {2: 0, 4: 2, 8: 4, 16: 10, 32: 14}
"""Index of the last block of each stride, whose output is the map."""

_STRIDES = {block: stride for stride, block in TAPS.items()}

CHANNELS = {stride: BLOCKS[block].outputs for stride, block in TAPS.items()}
"""Channels of each map, by stride."""


class SamePadConv2d(nn.Conv2d):
    """A convolution that pads like "SAME" of TensorFlow, for inputs that its stride divides.

    Of other inputs, it leaves the last row and column out, where TensorFlow would pad more.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1):
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        # A stride of 2 pads one pixel more on the right and at the bottom than on the left and at
        # the top, which no single ``padding`` of PyTorch can express.
        symmetric = before if before == after else 0
        super().__init__(inputs, outputs, kernel, stride, padding=symmetric, groups=groups)
        self.same_padding = None if before == after else (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H // stride, W // stride)."""
        if self.same_padding is not None:
            x = nn.functional.pad(x, self.same_padding)
        return super().forward(x)


class InvertedResidual(nn.Module):
    """A block that expands by a 1x1 convolution, filters depthwise, projects, adds its input."""

    def __init__(self, shape: BlockShape):
        super().__init__()
        width = shape.inputs * shape.expansion
        self.adds_input = shape.stride == 1 and shape.inputs == shape.outputs
        self.expand = nn.Conv2d(shape.inputs, width, 1) if shape.expansion > 1 else None
        self.depthwise = SamePadConv2d(width, width, shape.kernel, shape.stride, groups=width)
        self.project = nn.Conv2d(width, shape.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H // stride, W // stride)."""
        y = x if self.expand is None else nn.functional.relu6(self.expand(x))
        # No activation after the projection: the bottleneck is linear.
        projected: Tensor = self.project(nn.functional.relu6(self.depthwise(y)))
        return x + projected if self.adds_input else projected


class EfficientNetLite0(Trunk):
    """The frozen convolutional trunk up to a stride.

    Args:
        last_stride: Stride of the last map, 16 or 32; the blocks after it are not built.
    """

    def __init__(self, last_stride: int = 32):
        super().__init__()
        self.normalization = EFFICIENTNET_LITE
        self.channels = {stride: CHANNELS[stride] for stride in TAPS if stride <= last_stride}
        self.stem = SamePadConv2d(3, BLOCKS[0].inputs, 3, 2)
        self.blocks = _blocks(0, TAPS[last_stride])
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the maps at the last block of each stride; see ``Trunk``."""
        return _maps(self.blocks, 0, nn.functional.relu6(self.stem(image)))

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state dict of ImageNet weights, named as in ``efficientnet-lite-pytorch``."""
        # The trunk stays frozen, so that its batch norm can be folded into the convolutions.
        _copy_folded(self.stem, state, "_conv_stem", "_bn0")
        _copy_blocks(self.blocks, 0, state)


class EfficientNetLite0Continuation(Continuation):
    """The blocks of stride 32, which continue an ``EfficientNetLite0`` of last stride 16."""

    source = 16

    def __init__(self) -> None:
        super().__init__()
        self.channels = dict(CHANNELS)
        self._first = TAPS[self.source] + 1
        self.blocks = _blocks(self._first, TAPS[32])
        self.requires_grad_(False)

    def forward(self, features: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Add the map of stride 32; see ``Continuation``."""
        return {**features, **_maps(self.blocks, self._first, features[self.source])}

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state dict of ImageNet weights; see ``EfficientNetLite0``."""
        _copy_blocks(self.blocks, self._first, state)


def _blocks(first: int, last: int) -> nn.ModuleList:
    return nn.ModuleList(InvertedResidual(shape) for shape in BLOCKS[first : last + 1])


def _maps(blocks: nn.ModuleList, first: int, x: Tensor) -> dict[int, Tensor]:
    """Run blocks in turn; return the output of the last block of each stride, by stride.

    Args:
        blocks: Blocks.
        first: Index of the first one in ``BLOCKS``.
        x: Its input (N, C, H, W).
    """
    features = {}
    for index, block in enumerate(blocks, first):
        x = block(x)
        if index in _STRIDES:
            features[_STRIDES[index]] = x
    return features


def _copy_blocks(blocks: nn.ModuleList, first: int, state: Mapping[str, Tensor]) -> None:
    for index, block in enumerate(blocks, first):
        assert isinstance(block, InvertedResidual)
        prefix = f"_blocks.{index}."
        if block.expand is not None:
            _copy_folded(block.expand, state, prefix + "_expand_conv", prefix + "_bn0")
        _copy_folded(block.depthwise, state, prefix + "_depthwise_conv", prefix + "_bn1")
        _copy_folded(block.project, state, prefix + "_project_conv", prefix + "_bn2")


def _copy_folded(
    convolution: nn.Conv2d, state: Mapping[str, Tensor], weight_name: str, norm_name: str
) -> None:
    parts = ("running_mean", "running_var", "weight", "bias")
    mean, variance, scale, shift = (state[f"{norm_name}.{part}"] for part in parts)
    weight, bias = fuse_conv_bn_weights(
        state[f"{weight_name}.weight"], None, mean, variance, BATCH_NORM_EPSILON, scale, shift
    )
    with torch.no_grad():
        convolution.weight.copy_(weight)
        assert convolution.bias is not None
        convolution.bias.copy_(bias)
