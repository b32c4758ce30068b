# SPDX-License-Identifier: Apache-2.0
"""The interface of trunks: the networks, also called backbones, whose maps the heads read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """The map (value - mean) / std of the values 0..255 of an image, channel by channel.

    Args:
        mean: Means of the channels, in the order ``order``.
        std: Divisors of the channels, in the order ``order``.
        order: Order of the channels that the trunk reads.
        fill: Value in 0..255 of pixels outside the image, before normalization.
    """

    mean: Triple
    std: Triple
    order: Literal["rgb", "bgr"] = "rgb"
    fill: float = 127.5

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize RGB images (N, H, W, 3) of any dtype, 0..255, to (N, 3, H, W) float32."""
        planes = images.permute(0, 3, 1, 2).float()
        if self.order == "bgr":
            planes = planes.flip(1)
        mean = torch.tensor(self.mean, device=planes.device)[:, None, None]
        std = torch.tensor(self.std, device=planes.device)[:, None, None]
        return (planes - mean) / std


def of_unit_range(mean: Triple, std: Triple) -> Normalization:
    """Return the normalization that is (value / 255 - mean) / std in RGB order."""
    scaled = [(one[0] * 255, one[1] * 255, one[2] * 255) for one in (mean, std)]
    return Normalization(mean=scaled[0], std=scaled[1])


EFFICIENTNET_LITE = Normalization(mean=(127.0,) * 3, std=(128.0,) * 3, fill=127.0)
"""The values of TensorFlow's EfficientNet-Lite, for the ``mini`` networks."""

IMAGENET = of_unit_range((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""The values of DeepMask and SharpMask."""

# Nearly the same as IMAGENET; the original detector was trained with these.
IMAGENET_MULTIPATH = of_unit_range((0.48462, 0.45624, 0.40588), (0.22889, 0.22447, 0.22496))
"""The values of MultiPathNet on a ResNet."""

# Caffe reads BGR and divides by nothing.
CAFFE = Normalization(mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0), order="bgr")
"""The values of VGG-16 as Fast R-CNN trained it."""


class Trunk(nn.Module):
    """A network from an image to maps of several strides.

    Attributes:
        normalization: Normalization of the images that the weights were trained on.
        channels: Channels of each map, by stride.
    """

    normalization: Normalization
    channels: dict[int, int]

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the maps.

        Args:
            image: Normalized image, (N, 3, H, W) float32; H and W are multiples of the last stride.

        Returns:
            Maps (N, C, H / stride, W / stride) by stride, where C is ``channels[stride]``.
        """
        raise NotImplementedError  # every trunk has its own


class Continuation(nn.Module):
    """The layers that continue the trunk of another network to coarser maps.

    Attributes:
        source: Stride of the map of that trunk which the layers read.
        channels: Channels of each map, by stride: of those of the trunk, and of the coarser ones.
    """

    source: int
    channels: dict[int, int]

    def forward(self, features: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Add the coarser maps to those of the trunk.

        Args:
            features: Maps (N, C, H, W) of the trunk by stride, among them that of stride ``source``,
                with any number of rows and columns.

        Returns:
            The same maps and the coarser ones, by stride. Rows and columns are rounded down where a
            stride does not divide them.
        """
        raise NotImplementedError  # every continuation has its own
