# SPDX-License-Identifier: Apache-2.0
"""Batch norm as the three systems use it: a fixed affine map of each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FrozenAffine(nn.Module):
    """y = scale x + shift, channel by channel; both are buffers, never trained and never updated.

    Args:
        channels: of the input.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x * self.scale[:, None, None] + self.shift[:, None, None]

    def load_batch_norm(
        self, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float = 1e-5
    ) -> None:
        """Become a batch norm in evaluation mode.

        scale = weight / sqrt(variance + epsilon), shift = bias - mean scale.

        Args:
            weight: (channels,) its factor, gamma.
            bias: (channels,) its summand, beta.
            mean: (channels,) running mean.
            variance: (channels,) running variance.
            epsilon: added to the variance.
        """
        scale = weight * torch.rsqrt(variance + epsilon)
        self.scale.copy_(scale)
        self.shift.copy_(bias - mean * scale)
