# SPDX-License-Identifier: Apache-2.0
"""VGG without its last pooling: the trunk of the first DeepMask, of Fast R-CNN and MultiPathNet.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014):
configuration A (VGG-11) has one or two convolutions between poolings, D (VGG-16) two or three.
Parameters are named as in torchvision, `features.N`, which counts layers as the Torch7 files do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from foveate.models.normalisation import Normalisation
from foveate.models.trunk import Trunk

VGG_A = (1, 1, 2, 2, 2)
VGG_16 = (2, 2, 3, 3, 3)
"""Convolutions of each stage."""


class VGG(Trunk):
    """Five stages of 3x3 convolutions, taps in front of each pooling: strides 1, 2, 4, 8 and 16.

    Args:
        depths: convolutions of each stage.
        widths: channels of each stage.
        frozen_stages: how many stages from the front are not trained.
        normalisation: what the weights were trained with.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        widths: Sequence[int],
        frozen_stages: int,
        normalisation: Normalisation,
    ):
        super().__init__()
        self.normalisation = normalisation
        self.channels = {1 << stage: width for stage, width in enumerate(widths)}
        self.features = nn.Sequential()
        self._ends: list[int] = []
        inputs = 3
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                self.features.append(nn.MaxPool2d(2))
            for _ in range(depth):
                self.features.append(nn.Conv2d(inputs, width, 3, padding=1))
                self.features.append(nn.ReLU())
                inputs = width
            self._ends.append(len(self.features))
        for layer in self.features.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.features[: [0, *self._ends][frozen_stages]].requires_grad_(False)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the features behind the last ReLU of each stage."""
        features = {}
        x = image
        for stage, (first, last) in enumerate(pairwise([0, *self._ends])):
            x = self.features[first:last](x)
            features[1 << stage] = x
        return features
