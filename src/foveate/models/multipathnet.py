# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet: name the object of a box from four foveal regions and three depths of the trunk.

Zagoruyko et al., "A MultiPath Network for Object Detection" (BMVC 2016): foveal structure
(section 3.1), skip connections (3.2) and the integral loss (3.3). A fifth tower regresses the box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from foveate.models.roi_max_pool import roi_max_pool

INTEGRAL_THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
"""IoU from which a proposal is foreground, for each of the classification heads."""


class TowerShape(NamedTuple):
    """A tower's region, as a multiple of the box, and the strides of the maps that it reads."""

    region: float
    strides: tuple[int, ...]


CLASS_TOWERS = (
    TowerShape(1.0, (32, 16, 8)),
    TowerShape(1.5, (32, 16)),
    TowerShape(2.0, (32, 16)),
    TowerShape(4.0, (32,)),
)
BOX_TOWER = TowerShape(1.5, (32, 16, 8))


def foveal_boxes(boxes: Tensor, region: float) -> Tensor:
    """Scale (R, 4) xyxy boxes about their centres by `region`; nothing is clipped."""
    low, high = boxes[:, :2], boxes[:, 2:]
    margin = (high - low) * ((region - 1) / 2)
    return torch.cat([low - margin, high + margin], dim=1)


class Tower(nn.Module):
    """Pool a region from several maps, normalise each, mix by a 1x1 convolution, and embed.

    Args:
        shape: region and maps.
        channels: stride -> channels of the map.
        pooled_side: bins on each axis of ROI pooling.
        mixed_channels: outputs of the 1x1 convolution.
        hidden: width of the linear layer behind it.
    """

    def __init__(
        self,
        *,
        shape: TowerShape,
        channels: Mapping[int, int],
        pooled_side: int,
        mixed_channels: int,
        hidden: int,
    ):
        super().__init__()
        self.shape = shape
        self.pooled_side = pooled_side
        self.mix = nn.Conv2d(sum(channels[stride] for stride in shape.strides), mixed_channels, 1)
        self.embed = nn.Linear(mixed_channels * pooled_side**2, hidden)
        self.dropout = nn.Dropout(0.5)

    def pool(self, features: Mapping[int, Tensor], boxes: Tensor) -> Tensor:
        """Pool the region of (R, 4) xyxy boxes in picture pixels: (R, C, P, P), no weights yet."""
        region = foveal_boxes(boxes, self.shape.region)
        pooled = [
            _unit_root_mean_square(
                roi_max_pool(features[stride], region, self.pooled_side, 1 / stride)
            )
            for stride in self.shape.strides
        ]
        return torch.cat(pooled, dim=1)

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed (R, C, P, P) pooled regions: (R, hidden)."""
        mixed = self.mix(pooled)
        embedded: Tensor = self.dropout(torch.relu(self.embed(mixed.flatten(1))))
        return embedded


def _unit_root_mean_square(pooled: Tensor) -> Tensor:
    """Normalise each ROI's (C, P, P) to a root mean square of 1.

    The paper divides by the L2 norm and multiplies by a constant 1000 that suits VGG; the square
    root of the number of elements in its place suits any width.
    """
    mean_square = pooled.square().mean(dim=(1, 2, 3), keepdim=True)
    return pooled * torch.rsqrt(mean_square + 1e-6)


class MultiPathNet(nn.Module):
    """The trunk, four classification towers, six integral heads, and a box tower of its own.

    Args:
        trunk: maps a picture to features by stride; stays frozen.
        channels: stride -> channels of the trunk's maps at strides 8, 16 and 32.
        classes: number of classes, without background.
        pooled_side: see `Tower`.
        mixed_channels: see `Tower`.
        hidden: see `Tower`.
    """

    def __init__(
        self,
        *,
        trunk: nn.Module,
        channels: Mapping[int, int],
        classes: int,
        pooled_side: int,
        mixed_channels: int,
        hidden: int,
    ):
        super().__init__()
        self.trunk = trunk
        self.classes = classes

        def tower(shape: TowerShape) -> Tower:
            return Tower(
                shape=shape,
                channels=channels,
                pooled_side=pooled_side,
                mixed_channels=mixed_channels,
                hidden=hidden,
            )

        self.class_towers = nn.ModuleList(tower(shape) for shape in CLASS_TOWERS)
        self.box_tower = tower(BOX_TOWER)
        self.class_heads = nn.ModuleList(
            nn.Linear(len(CLASS_TOWERS) * hidden, classes + 1) for _ in INTEGRAL_THRESHOLDS
        )
        self.box_head = nn.Linear(hidden, (classes + 1) * 4)

    def features(self, picture: Tensor) -> dict[int, Tensor]:
        """Compute the maps that the towers read.

        Args:
            picture: (1, 3, H, W) float32, normalised, H and W multiples of 32.

        Returns:
            Stride -> (1, C, H / stride, W / stride) for strides 8, 16 and 32.
        """
        features: dict[int, Tensor] = self.trunk(picture)
        return {stride: features[stride] for stride in (8, 16, 32)}

    def pool(self, features: Mapping[int, Tensor], boxes: Tensor) -> list[Tensor]:
        """Pool what each tower reads; the box tower's comes last.

        Args:
            features: maps by stride.
            boxes: (R, 4) float32 xyxy in pixels of the picture that the maps were made from.

        Returns:
            (R, C, P, P) a tower. They depend on the frozen trunk only, so training keeps them.
        """
        return [tower.pool(features, boxes) for tower in self.towers]

    @property
    def towers(self) -> list[Tower]:
        """The classification towers and the box tower."""
        towers = [*self.class_towers, self.box_tower]
        return [tower for tower in towers if isinstance(tower, Tower)]

    def logits(self, pooled: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Classify boxes, head by head, and regress them.

        Args:
            pooled: as `pool` gives them.

        Returns:
            Class logits (6, R, classes + 1), column 0 the background, and normalised box deltas
            (R, classes + 1, 4).
        """
        *class_embeddings, box_embedding = (
            tower(regions) for tower, regions in zip(self.towers, pooled, strict=True)
        )
        fovea = torch.cat(class_embeddings, dim=1)
        class_logits = torch.stack([head(fovea) for head in self.class_heads])
        deltas: Tensor = self.box_head(box_embedding)
        return class_logits, deltas.reshape(-1, self.classes + 1, 4)

    def forward(self, features: Mapping[int, Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Classify boxes: the mean of the heads' softmaxes (R, classes + 1), and the deltas."""
        class_logits, deltas = self.logits(self.pool(features, boxes))
        return mean_of_softmaxes(class_logits), deltas


def mean_of_softmaxes(class_logits: Tensor | Sequence[Tensor]) -> Tensor:
    """Average the probabilities of the integral heads: (heads, R, C) logits -> (R, C)."""
    if not isinstance(class_logits, Tensor):
        class_logits = torch.stack(list(class_logits))
    return torch.softmax(class_logits, dim=-1).mean(dim=0)
