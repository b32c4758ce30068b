# SPDX-License-Identifier: Apache-2.0
"""`foveate::BilinearUpsample2d` as a PyTorch operator, so that export keeps it as one node."""

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
        if torch.onnx.is_in_onnx_export():
            batch, channels, height, width = x.shape
            shape = (batch, channels, height * self.scale, width * self.scale)
            node: Tensor = torch.onnx.ops.symbolic(
                "foveate::BilinearUpsample2d",
                (x,),
                {
                    "scale": self.scale,
                    "mode": "half_pixel",
                    "plugin_namespace": "foveate",
                    "plugin_version": "1",
                },
                dtype=x.dtype,
                shape=shape,
                version=1,
            )
            return node
        return nn.functional.interpolate(
            x, scale_factor=float(self.scale), mode="bilinear", align_corners=False
        )
