# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet: classify the object of a box from four foveal regions and three maps of the trunk.

Zagoruyko et al., "A MultiPath Network for Object Detection" (BMVC 2016): foveal structure
(section 3.1), skip connections (3.2) and the integral loss (3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from foveate.models.towers import LinearTower, Tower
from foveate.models.trunk import Trunk

INTEGRAL_THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
"""Smallest IoU of a foreground proposal, for each classification head."""


class MultiPathNet(nn.Module):
    """A trunk, classification towers, integral heads, and a box head.

    Fast R-CNN is the case of one tower that both heads read.

    Args:
        trunk: Trunk with the maps that the towers read.
        class_towers: Towers whose embeddings are concatenated and classified.
        box_tower: Tower that the box head alone reads, the fifth of the original code; ``None`` if
            it reads the embeddings of ``class_towers``.
        classes: Number of classes without background.
        heads: Number of classification heads, one per IoU threshold.
    """

    def __init__(
        self,
        *,
        trunk: Trunk,
        class_towers: Sequence[Tower],
        box_tower: Tower | None,
        classes: int,
        heads: int = len(INTEGRAL_THRESHOLDS),
    ):
        super().__init__()
        self.trunk = trunk
        self.classes = classes
        self.class_towers = nn.ModuleList(class_towers)
        self.box_tower = box_tower
        # A pass of the export may join the linear layers of all towers, (T, R, inputs) to
        # (T, R, outputs). Until then each tower has its own.
        self.joint: nn.Module | None = None
        fovea = sum(tower.outputs for tower in class_towers)
        self.class_heads = nn.ModuleList(nn.Linear(fovea, classes + 1) for _ in range(heads))
        self.box_head = nn.Linear(box_tower.outputs if box_tower else fovea, (classes + 1) * 4)

    @property
    def towers(self) -> list[Tower]:
        """The classification towers and, if there is one, the box tower."""
        towers = [*self.class_towers, self.box_tower]
        return [tower for tower in towers if isinstance(tower, Tower)]

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of the maps that the towers read, finest first."""
        return tuple(sorted({s for tower in self.towers for s in tower.pooling.strides}))

    def features(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the maps of an image that the towers read, by stride; see ``Trunk.forward``."""
        features: dict[int, Tensor] = self.trunk(image)
        return {stride: features[stride] for stride in self.strides}

    def pool(self, features: Mapping[int, Tensor], boxes: Tensor) -> list[Tensor]:
        """Pool the input of each tower; that of the box tower comes last.

        Args:
            features: Maps by stride.
            boxes: Boxes (R, 4) float32 xyxy in pixels of the image that the maps were made from.

        Returns:
            Pooled regions, (R, C, P, P) per tower.
        """
        # These depend on the trunk alone, so that training caches them where it is frozen.
        return [tower.pooling(features, boxes) for tower in self.towers]

    def logits(self, pooled: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Classify boxes, head by head, and regress them from the regions that ``pool`` returned.

        Returns:
            Class logits (heads, R, classes + 1), whose column 0 is background, and normalised box
            deltas (R, classes + 1, 4).
        """
        embeddings = self._embeddings(pooled)
        fovea = torch.cat(embeddings[: len(self.class_towers)], dim=1)
        class_logits = torch.stack([head(fovea) for head in self.class_heads])
        deltas: Tensor = self.box_head(embeddings[-1] if self.box_tower else fovea)
        return class_logits, deltas.reshape(-1, self.classes + 1, 4)

    def _embeddings(self, pooled: Sequence[Tensor]) -> list[Tensor]:
        """Embed pooled regions: (R, outputs) per tower."""
        pairs = zip(self.towers, pooled, strict=True)
        if self.joint is None:
            return [tower(regions) for tower, regions in pairs]
        mixed = [tower.mixed(regions) for tower, regions in pairs if isinstance(tower, LinearTower)]
        embeddings: Tensor = self.joint(torch.stack(mixed))
        return list(embeddings.unbind())

    def forward(self, features: Mapping[int, Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities (R, classes + 1), the mean over heads, and deltas as ``logits``."""
        class_logits, deltas = self.logits(self.pool(features, boxes))
        return mean_of_softmaxes(class_logits), deltas


def mean_of_softmaxes(class_logits: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the mean of the probabilities of the heads: logits (heads, R, C) to (R, C)."""
    if not isinstance(class_logits, Tensor):
        class_logits = torch.stack(list(class_logits))
    return torch.softmax(class_logits, dim=-1).mean(dim=0)
