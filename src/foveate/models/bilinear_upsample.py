# SPDX-License-Identifier: Apache-2.0
"""Bilinear upsampling by a whole factor and, in an exported graph, one node."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BilinearUpsample2d(nn.Module):
    """Bilinear upsampling by a whole factor, pixel centres at halves, edges repeated.

    Args:
        scale: the factor.
    """

    def __init__(self, scale: int):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (N, C, H, W) to (N, C, scale H, scale W)."""
        # A compiler knows the interpolation itself, and fuses what stands around it.
        if torch.compiler.is_exporting():
            node: Tensor = _operator(x, self.scale)
            return node
        return _upsample(x, self.scale)


def _upsample(x: Tensor, scale: int) -> Tensor:
    return nn.functional.interpolate(
        x, scale_factor=float(scale), mode="bilinear", align_corners=False
    )


@torch.library.custom_op("foveate::bilinear_upsample", mutates_args=())
def _operator(x: Tensor, scale: int) -> Tensor:
    return _upsample(x, scale)


@_operator.register_fake
def _fake(x: Tensor, scale: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.new_empty((batch, channels, height * scale, width * scale))


OPERATOR = torch.ops.foveate.bilinear_upsample.default
"""The node of exported graphs."""
