# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet: classify the object of a box from four foveal regions and three maps of the trunk.

Zagoruyko et al., "A MultiPath Network for Object Detection" (BMVC 2016): foveal structure
(section 3.1), skip connections (3.2) and the integral loss (3.3). A tower pools a region of the
maps and embeds it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate.models.roi_max_pool import Rounding, roi_max_pool
from foveate.models.trunk import Continuation, Trunk

INTEGRAL_THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
"""Smallest IoU of a foreground proposal, for each classification head."""

# A constant, which the original code does not learn.
L2_SCALE = 1000.0
"""Factor of L2-normalized regions."""

SKIP_FACTORS: Mapping[int, float] = {8: 1 / 30, 4: 1 / 200}
"""Factors of conv4 and conv3 of VGG, by stride, in a network that does not normalize."""


def foveal_boxes(boxes: Tensor, region: float) -> Tensor:
    """Scale boxes about their centers, without clipping them.

    (x1, y1, x2, y2) becomes (x1 - m w, y1 - m h, x2 + m w, y2 + m h) with w = x2 - x1, h = y2 - y1
    and m = (region - 1) / 2 (MultiPath, section 3.1).

    Args:
        boxes: Boxes (R, 4) float xyxy.
        region: Side of the region in sides of the box.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    margin = (high - low) * ((region - 1) / 2)
    return torch.cat([low - margin, high + margin], dim=1)


def l2_normalized(pooled: Tensor) -> Tensor:
    """Normalize each region (C, P, P) as a whole to 1000 x / |x| (MultiPath, section 3.2)."""
    # ``normalize`` leaves a region of zeros, which has no direction, as it is.
    return L2_SCALE * nn.functional.normalize(pooled.flatten(1)).reshape(pooled.shape)


def unit_root_mean_square(pooled: Tensor) -> Tensor:
    """Normalize each region (C, P, P) to a root mean square of 1."""
    # The constant 1000 of the paper suits VGG. This is the same with the square root of the number
    # of elements in its place, which suits any width.
    mean_square = pooled.square().mean(dim=(1, 2, 3), keepdim=True)
    return pooled * torch.rsqrt(mean_square + 1e-6)


@dataclass(frozen=True, kw_only=True)
class RegionPooling:
    """The input of a tower: a region of each of several maps, pooled.

    Args:
        region: Side of the region in sides of the box.
        strides: Strides of the maps.
        side: Number of bins on each axis, P.
        normalize: Function of the pooled regions (R, C, P, P) of each map, or ``None``.
        factors: Factors of the pooled regions of some maps, by stride.
        rounding: Rounding rule of ROI max pooling.
    """

    region: float = 1.0
    strides: tuple[int, ...] = (16,)
    side: int = 7
    normalize: Callable[[Tensor], Tensor] | None = None
    factors: Mapping[int, float] = field(default_factory=dict)
    rounding: Rounding = "caffe"

    def __call__(self, features: Mapping[int, Tensor], boxes: Tensor) -> Tensor:
        """Pool the region of boxes (R, 4), xyxy in pixels of the image, from maps by stride.

        Returns:
            Pooled regions (R, C, P, P), where C is the sum over the maps.
        """
        region = foveal_boxes(boxes, self.region)
        pooled = []
        for stride in self.strides:
            cells = roi_max_pool(features[stride], region, self.side, 1 / stride, self.rounding)
            if stride in self.factors:
                cells = cells * self.factors[stride]
            pooled.append(self.normalize(cells) if self.normalize else cells)
        return torch.cat(pooled, dim=1)


class Tower(nn.Module):
    """The pooling of a region, and the layers that embed it.

    Args:
        pooling: Input of the tower.
        outputs: Length of the embedding.
    """

    def __init__(self, pooling: RegionPooling, outputs: int):
        super().__init__()
        self.pooling = pooling
        self.outputs = outputs

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed pooled regions (R, C, P, P) as (R, outputs)."""
        raise NotImplementedError  # every kind of tower has its own


class LinearTower(Tower):
    """A 1x1 convolution that mixes the maps, then linear layers, each with ReLU and dropout.

    Args:
        pooling: Input of the tower.
        channels: Channels of all maps together.
        mixed_channels: Output channels of the 1x1 convolution, which no ReLU follows; ``None`` for
            a tower that does not mix.
        hidden: Widths of the linear layers: one, or fc6 and fc7 of VGG.
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
        """Embed pooled regions (R, C, P, P) as (R, outputs)."""
        embedded: Tensor = self.dropout(torch.relu(self.embed(self.mixed(pooled))))
        return embedded

    def mixed(self, pooled: Tensor) -> Tensor:
        """Mix the maps of pooled regions (R, C, P, P) to (R, mixed_channels * P * P)."""
        mixed: Tensor = self.mix(pooled)
        return mixed.flatten(1)


class ResidualTower(Tower):
    """The last stage of a ResNet, averaged over its cells.

    Args:
        pooling: Input of the tower; 14 bins on each axis become 7 cells.
        stage: Stage that ``residual_stage`` made.
        outputs: Output channels of the stage.
    """

    def __init__(self, *, pooling: RegionPooling, stage: nn.Module, outputs: int):
        super().__init__(pooling, outputs)
        self.layer4 = stage

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed pooled regions (R, C, P, P) as (R, outputs)."""
        embedded: Tensor = self.layer4(pooled).mean(dim=(2, 3))
        return embedded


class JointLinear(nn.Module):
    """A linear layer of several towers as one batched product.

    Args:
        towers: Number of towers, T.
        inputs: Inputs of each tower.
        outputs: Outputs of each tower.
    """

    def __init__(self, towers: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(towers, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(towers, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, R, inputs) to (T, R, outputs), each tower by its own weights."""
        return x @ self.weight + self.bias


def _linear_layers(widths: Sequence[int]) -> nn.Module:
    """Stack linear layers with ReLU and dropout between them; return a single one as it is."""
    layers = nn.Sequential()
    for before, after in pairwise(widths):
        if len(layers):
            layers.extend([nn.ReLU(), nn.Dropout(0.5)])
        layers.append(nn.Linear(before, after))
    return layers if len(layers) > 1 else layers[0]


class MultiPathNet(nn.Module):
    """A trunk, classification towers, integral heads, and a box head.

    Fast R-CNN is the case of one tower that both heads read.

    Args:
        trunk: Trunk with the maps that the towers read, or the continuation of the trunk of a
            proposal network, whose maps the classifier then shares.
        class_towers: Towers whose embeddings are concatenated and classified.
        box_tower: Tower that the box head alone reads, the fifth of the original code; ``None`` if
            it reads the embeddings of ``class_towers``.
        classes: Number of classes without background.
        heads: Number of classification heads, one per IoU threshold.
    """

    def __init__(
        self,
        *,
        trunk: Trunk | Continuation,
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

    @property
    def own_trunk(self) -> Trunk:
        """The trunk, from an image to maps.

        Raises:
            ModelError: The classifier continues the trunk of a proposal network.
        """
        if isinstance(self.trunk, Continuation):
            raise ModelError(
                "the classifier has no trunk of its own: it reads maps of a proposal network",
                remedy="use it in a cascade, as `foveate train` without --network does",
            )
        return self.trunk

    @property
    def shared_strides(self) -> tuple[int, ...]:
        """The strides of the maps of a proposal network that the classifier needs, finest first."""
        if not isinstance(self.trunk, Continuation):
            return ()
        source = self.trunk.source
        return tuple(sorted({source, *(stride for stride in self.strides if stride < source)}))

    def features(self, source: Tensor | Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Compute the maps that the towers read, by stride.

        Args:
            source: Image for a trunk, see ``Trunk.forward``; for a continuation, the maps of the
                proposal network of strides ``shared_strides``, by stride.
        """
        features: dict[int, Tensor] = self.trunk(source)
        return {stride: features[stride] for stride in self.strides}

    def pool(self, features: Mapping[int, Tensor], boxes: Tensor) -> list[Tensor]:
        """Pool the input of each tower; that of the box tower comes last.

        Args:
            features: Maps by stride.
            boxes: Boxes (R, 4) float32 xyxy in pixels of the image that the maps were made from.

        Returns:
            Pooled regions, (R, C, P, P) per tower.
        """
        # They depend on the trunk alone, so that training can cache them if it is frozen.
        return [tower.pooling(features, boxes) for tower in self.towers]

    def logits(self, pooled: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Classify boxes, head by head, and regress them from the regions that ``pool`` returned.

        Returns:
            Class logits (heads, R, classes + 1), whose column 0 is background, and normalized box
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


def mean_of_softmaxes(class_logits: Tensor) -> Tensor:
    """Return the mean of the probabilities of the heads: logits (heads, R, C) to (R, C)."""
    return torch.softmax(class_logits, dim=-1).mean(dim=0)
