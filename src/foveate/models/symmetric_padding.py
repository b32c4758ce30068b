# SPDX-License-Identifier: Apache-2.0
"""Symmetric padding, cba|abcd|dcb: the edge pixel is repeated, unlike in PyTorch's "reflect".

DeepMask and SharpMask pad so in front of every 3x3 and 7x7 convolution. The release treats what it
has padded as a constant: the gradient that arrives there is dropped, not added to the pixels that
were copied.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Padding = Literal["zeros", "symmetric"]
"""How a convolution's input is continued past its edges."""


def symmetric_pad(x: Tensor, pad: int) -> Tensor:
    """Pad (N, C, H, W) by `pad` mirrored rows and columns on every side, H and W at least `pad`."""
    if torch.is_grad_enabled() and x.requires_grad:
        padded: Tensor = _ConstantSymmetricPad.apply(x, pad)  # type: ignore[no-untyped-call]  # torch types no apply
        return padded
    return _mirror(x, pad)


def _mirror(x: Tensor, pad: int) -> Tensor:
    if pad == 1:
        return nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    x = torch.cat([x[:, :, :pad].flip(2), x, x[:, :, -pad:].flip(2)], dim=2)
    return torch.cat([x[:, :, :, :pad].flip(3), x, x[:, :, :, -pad:].flip(3)], dim=3)


class _ConstantSymmetricPad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: int) -> Tensor:
        ctx.pad = pad
        return _mirror(x, pad)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        pad = ctx.pad
        return gradient[:, :, pad:-pad, pad:-pad], None


class SymmetricConv2d(nn.Conv2d):
    """A convolution of odd side that pads symmetrically, so that stride 1 keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True):
        super().__init__(inputs, outputs, kernel, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return super().forward(symmetric_pad(x, self.kernel_size[0] // 2))


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    *,
    padding: Padding,
    bias: bool = True,
) -> nn.Conv2d:
    """Make a convolution of odd side that keeps the size but for its stride."""
    if padding == "zeros" or kernel == 1:
        return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
    return SymmetricConv2d(inputs, outputs, kernel, stride, bias=bias)
