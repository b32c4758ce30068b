# SPDX-License-Identifier: Apache-2.0
"""A detector's towers: pool a region of the trunk's maps, and embed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from foveate.models.roi_max_pool import Rounding, roi_max_pool

L2_SCALE = 1000.0
"""What MultiPathNet multiplies L2-normalised regions by: a constant, not learnt."""

SKIP_FACTORS: Mapping[int, float] = {8: 1 / 30, 4: 1 / 200}
"""What it multiplies the maps of VGG's conv4 and conv3 by where it does not normalise, by stride."""


def foveal_boxes(boxes: Tensor, region: float) -> Tensor:
    """Scale boxes about their centres; nothing is clipped.

    (x1, y1, x2, y2) -> (x1 - m w, y1 - m h, x2 + m w, y2 + m h), w = x2 - x1, h = y2 - y1 and
    m = (region - 1) / 2: 1/4 of the size on each side for 1.5, 1/2 for 2, 3/2 for 4 (MultiPath,
    section 3.1).

    Args:
        boxes: (R, 4) float xyxy.
        region: side of the region in sides of the box.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    margin = (high - low) * ((region - 1) / 2)
    return torch.cat([low - margin, high + margin], dim=1)


def l2_normalised(pooled: Tensor) -> Tensor:
    """Normalise each region as a whole: 1000 x / |x|, |x| over (C, P, P) (MultiPath, section 3.2).

    A region of zeros, which has no direction, stays zero.
    """
    return L2_SCALE * nn.functional.normalize(pooled.flatten(1)).reshape(pooled.shape)


def unit_root_mean_square(pooled: Tensor) -> Tensor:
    """Normalise each region's (C, P, P) to a root mean square of 1.

    The paper divides by the L2 norm and multiplies by a constant 1000 that suits VGG; the square
    root of the number of elements in its place suits any width.
    """
    mean_square = pooled.square().mean(dim=(1, 2, 3), keepdim=True)
    return pooled * torch.rsqrt(mean_square + 1e-6)


@dataclass(frozen=True, kw_only=True)
class RegionPooling:
    """What a tower reads.

    Attributes:
        region: side of the region in sides of the box.
        strides: of the maps.
        side: bins on each axis, P.
        normalise: applied to each map's (R, C, P, P), or None.
        factors: what the maps of some strides are multiplied by.
        rounding: rule of ROI max pooling.
    """

    region: float = 1.0
    strides: tuple[int, ...] = (16,)
    side: int = 7
    normalise: Callable[[Tensor], Tensor] | None = None
    factors: Mapping[int, float] = field(default_factory=dict)
    rounding: Rounding = "caffe"

    def __call__(self, features: Mapping[int, Tensor], boxes: Tensor) -> Tensor:
        """Pool the region of (R, 4) xyxy boxes in pixels: (R, C, P, P), C of all maps together."""
        region = foveal_boxes(boxes, self.region)
        pooled = []
        for stride in self.strides:
            cells = roi_max_pool(
                features[stride], region, self.side, 1 / stride, rounding=self.rounding
            )
            if stride in self.factors:
                cells = cells * self.factors[stride]
            pooled.append(self.normalise(cells) if self.normalise else cells)
        return torch.cat(pooled, dim=1)


class Tower(nn.Module):
    """A region's pooling, and the layers that embed it.

    Args:
        pooling: what it reads.
        outputs: length of the embedding.
    """

    def __init__(self, pooling: RegionPooling, outputs: int):
        super().__init__()
        self.pooling = pooling
        self.outputs = outputs

    def pool(self, features: Mapping[int, Tensor], boxes: Tensor) -> Tensor:
        """Pool the region of (R, 4) xyxy boxes in image pixels: (R, C, P, P), no weights yet."""
        return self.pooling(features, boxes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed (R, C, P, P) pooled regions: (R, outputs)."""
        raise NotImplementedError  # every kind of tower has its own


class LinearTower(Tower):
    """A 1x1 convolution that mixes the maps, and linear layers, with ReLU and dropout behind each.

    Args:
        pooling: what it reads.
        channels: of all maps together.
        mixed_channels: outputs of the 1x1 convolution, which no ReLU follows; None for no mixing.
        hidden: widths of the linear layers: one, or VGG's fc6 and fc7.
    """

    def __init__(
        self,
        *,
        pooling: RegionPooling,
        channels: int,
        mixed_channels: int | None,
        hidden: Sequence[int],
    ):
        super().__init__(pooling, hidden[-1])
        self.mix: nn.Module = nn.Identity()
        if mixed_channels is not None:
            self.mix = nn.Conv2d(channels, mixed_channels, 1)
            channels = mixed_channels
        self.embed = _linear_layers([channels * pooling.side**2, *hidden])
        self.dropout = nn.Dropout(0.5)

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed (R, C, P, P) pooled regions: (R, outputs)."""
        embedded: Tensor = self.dropout(torch.relu(self.embed(self.mixed(pooled))))
        return embedded

    def mixed(self, pooled: Tensor) -> Tensor:
        """Mix the maps of (R, C, P, P) pooled regions: (R, mixed channels * P * P)."""
        mixed: Tensor = self.mix(pooled)
        return mixed.flatten(1)


class ResidualTower(Tower):
    """The last stage of a ResNet, averaged over its cells.

    Args:
        pooling: what it reads; 14 bins on each axis become 7 cells.
        stage: the stage, as `residual_stage` makes it.
        outputs: its channels.
    """

    def __init__(self, *, pooling: RegionPooling, stage: nn.Module, outputs: int):
        super().__init__(pooling, outputs)
        self.layer4 = stage

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed (R, C, P, P) pooled regions: (R, outputs)."""
        embedded: Tensor = self.layer4(pooled).mean(dim=(2, 3))
        return embedded


class JointLinear(nn.Module):
    """A linear layer of several towers: one product of batches, (T, R, inputs) to (T, R, outputs).

    Args:
        towers: T.
        inputs: of each.
        outputs: of each.
    """

    def __init__(self, towers: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(towers, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(towers, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each tower's rows by its own weights."""
        return x @ self.weight + self.bias


def _linear_layers(widths: Sequence[int]) -> nn.Module:
    """Linear layers with ReLU and dropout between them: fc6, fc7 and so on; one alone as it is."""
    layers = nn.Sequential()
    for index, (before, after) in enumerate(pairwise(widths)):
        if index:
            layers.append(nn.ReLU())
            layers.append(nn.Dropout(0.5))
        layers.append(nn.Linear(before, after))
    return layers if len(layers) > 1 else layers[0]
