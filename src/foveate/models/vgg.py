# SPDX-License-Identifier: Apache-2.0
"""VGG without its last pooling: the trunk of the first DeepMask, of Fast R-CNN and MultiPathNet.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014),
table 1. Parameters are named as in torchvision, ``features.N``, which numbers layers as the Torch7
files do.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from foveate.models.layers import draw_weights
from foveate.models.trunk import Normalization, Trunk

# Convolutions of each stage in the configurations A (VGG-11) and D (VGG-16).
VGG_A = (1, 1, 2, 2, 2)
VGG_16 = (2, 2, 3, 3, 3)


class VGG(Trunk):
    """Five stages of 3x3 convolutions, with maps of strides 1, 2, 4, 8 and 16.

    Args:
        depths: Number of convolutions of each stage.
        width: Channels of the first stage; each of the next three doubles them.
        frozen_stages: Number of stages, from the first, that are not trained.
        normalization: Normalization that the weights were trained with.
    """

    def __init__(
        self, *, depths: Sequence[int], width: int, frozen_stages: int, normalization: Normalization
    ):
        super().__init__()
        self.normalization = normalization
        self.channels = {1 << stage: width << min(stage, 3) for stage in range(len(depths))}
        self.features = nn.Sequential()
        self._ends: list[int] = []
        inputs = 3
        for stage, depth in enumerate(depths):
            if stage:
                self.features.append(nn.MaxPool2d(2))
            for _ in range(depth):
                outputs = self.channels[1 << stage]
                self.features.extend([nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()])
                inputs = outputs
            self._ends.append(len(self.features))
        for layer in self.features.modules():
            if isinstance(layer, nn.Conv2d):
                draw_weights(layer.weight)
        self.features[: [0, *self._ends][frozen_stages]].requires_grad_(False)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the maps after the last ReLU of each stage, before its pooling; see ``Trunk``."""
        features = {}
        x = image
        for stage, (first, last) in enumerate(pairwise([0, *self._ends])):
            x = self.features[first:last](x)
            features[1 << stage] = x
        return features
