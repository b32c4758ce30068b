# SPDX-License-Identifier: Apache-2.0
"""What a trunk wants of an image's values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """(value - mean) / std of values in 0..255, channel by channel.

    Attributes:
        mean: of the channels, in their order.
        std: what they are divided by.
        order: of the channels.
        fill: value, in 0..255, of what lies outside the image, before normalisation.
    """

    mean: Triple
    std: Triple
    order: Literal["rgb", "bgr"] = "rgb"
    fill: float = 127.5

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise.

        Args:
            images: (N, H, W, 3) RGB of any dtype, 0..255.

        Returns:
            (N, 3, H, W) float32, channels in `order`.
        """
        planes = images.permute(0, 3, 1, 2).float()
        if self.order == "bgr":
            planes = planes.flip(1)
        mean = torch.tensor(self.mean, device=planes.device)[:, None, None]
        std = torch.tensor(self.std, device=planes.device)[:, None, None]
        return (planes - mean) / std


def _of_unit_range(mean: Triple, std: Triple) -> Normalisation:
    return Normalisation(
        mean=(mean[0] * 255, mean[1] * 255, mean[2] * 255),
        std=(std[0] * 255, std[1] * 255, std[2] * 255),
    )


EFFICIENTNET_LITE = Normalisation(mean=(127.0,) * 3, std=(128.0,) * 3, fill=127.0)
"""TensorFlow's, of the `mini` networks."""

IMAGENET = _of_unit_range((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""DeepMask's and SharpMask's."""

IMAGENET_MULTIPATH = _of_unit_range((0.48462, 0.45624, 0.40588), (0.22889, 0.22447, 0.22496))
"""MultiPathNet's with a ResNet: nearly the same, and not quite."""

CAFFE = Normalisation(mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0), order="bgr")
"""Of VGG-16 as Fast R-CNN trained it: BGR, without a standard deviation."""
