# SPDX-License-Identifier: Apache-2.0
"""What several networks share: weights, symmetric padding, frozen batch norm, upsampling."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Padding = Literal["zeros", "symmetric"]
"""How the input of a convolution continues beyond its edges."""


def draw_weights(weight: Tensor, std: float | None = None) -> None:
    """Draw weights from N(0, std) in place; by default as He et al. do in front of a ReLU."""
    if weight.is_meta:
        # There is nothing to draw, and PyTorch would import its compiler for it, which takes seconds.
        return
    if std is None:
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    else:
        nn.init.normal_(weight, std=std)


def symmetric_pad(x: Tensor, pad: int) -> Tensor:
    """Pad by mirrored rows and columns that repeat the edge: cba|abcd|dcb.

    DeepMask and SharpMask pad this way before every 3x3 and 7x7 convolution. PyTorch's "reflect"
    leaves the edge out: dcb|abcd|cba.

    Args:
        x: Maps (N, C, H, W), where H and W are at least ``pad``.
        pad: Rows and columns to add on each side.

    Returns:
        Padded maps (N, C, H + 2 pad, W + 2 pad). Their gradient reaches the inner pixels alone.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        padded: Tensor = _ConstantSymmetricPad.apply(x, pad)  # type: ignore[no-untyped-call]  # untyped in PyTorch
        return padded
    return _mirror(x, pad)


def _mirror(x: Tensor, pad: int) -> Tensor:
    # One mirrored row is the edge itself, for which PyTorch has a mode and one kernel.
    if pad == 1:
        return nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    # Rows first, so that the corners come from rows that are padded already.
    x = torch.cat([x[:, :, :pad].flip(2), x, x[:, :, -pad:].flip(2)], dim=2)
    return torch.cat([x[:, :, :, :pad].flip(3), x, x[:, :, :, -pad:].flip(3)], dim=3)


class _ConstantSymmetricPad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: int) -> Tensor:
        ctx.pad = pad
        return _mirror(x, pad)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # The original code inherits this from zero padding: the padding counts as a constant,
        # and the gradient there is dropped, not added to the pixels that were copied.
        pad = ctx.pad
        return gradient[:, :, pad:-pad, pad:-pad], None


class SymmetricConv2d(nn.Conv2d):
    """A convolution of odd side that pads symmetrically, so that a stride of 1 keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True):
        super().__init__(inputs, outputs, kernel, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return super().forward(symmetric_pad(x, self.kernel_size[0] // 2))


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, padding: Padding, bias: bool = True
) -> nn.Conv2d:
    """Make a convolution of odd side whose output is smaller than its input by the stride alone."""
    if padding == "zeros" or kernel == 1:
        return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
    return SymmetricConv2d(inputs, outputs, kernel, stride, bias=bias)


class FrozenAffine(nn.Module):
    """The map y = scale x + shift of each channel: batch norm as the three systems use it.

    Args:
        channels: Channels of the input.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int):
        super().__init__()
        # Buffers, so that no optimizer trains them and no count of parameters includes them.
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x * self.scale[:, None, None] + self.shift[:, None, None]


class BilinearUpsample2d(nn.Module):
    """Bilinear upsampling by a whole factor: pixel centers at halves, edges repeated.

    Args:
        scale: Factor of the height and of the width.
    """

    def __init__(self, scale: int):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (N, C, H, W) to (N, C, scale H, scale W)."""
        # In an exported graph it is one node, which a kernel replaces. A compiler supports the
        # interpolation itself, and fuses it with adjacent operations.
        if torch.compiler.is_exporting():
            node: Tensor = _bilinear_upsample(x, self.scale)
            return node
        return _upsample(x, self.scale)


def _upsample(x: Tensor, scale: int) -> Tensor:
    factor = float(scale)
    return nn.functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


@torch.library.custom_op("foveate::bilinear_upsample", mutates_args=())
def _bilinear_upsample(x: Tensor, scale: int) -> Tensor:
    return _upsample(x, scale)


@_bilinear_upsample.register_fake
def _fake_bilinear_upsample(x: Tensor, scale: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.new_empty((batch, channels, height * scale, width * scale))


BILINEAR_UPSAMPLE = torch.ops.foveate.bilinear_upsample.default
"""The node of exported graphs that upsamples."""
