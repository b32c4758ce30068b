# SPDX-License-Identifier: Apache-2.0
"""The three networks as training uses them: parts, losses, and grids of sample images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from foveate.arrays import Float32Array, Int64Array, UInt8Array
from foveate.models.deepmask import DeepMask
from foveate.models.losses import box_loss, integral_loss, mask_loss, score_loss
from foveate.models.multipathnet import MultiPathNet, mean_of_softmaxes
from foveate.models.sharpmask import SharpMask, deepmask_of
from foveate.training.loop import Losses
from foveate.training.original.batches import RegionBatch, WindowBatch
from foveate.training.sampling.samples import RegionSample

# Weight of the mask loss relative to the score: 1 / lambda (DeepMask, section 3.1). The original
# code multiplies the gradient of a mask batch by the size of the batch, so that lambda depends on
# it; here it is the published 1/32 whatever the batch.
MASK_WEIGHT = 32.0

_COLUMNS = 8
_GREEN, _RED, _GRAY = (0, 255, 0), (255, 0, 0), (128, 128, 128)


@dataclass(frozen=True)
class Objective(ABC):
    """A network, its parts, and its losses.

    Args:
        network: Network on the device that it is trained on.

    Attributes:
        weights: Weight of each loss in their sum.
    """

    network: nn.Module
    weights: ClassVar[Mapping[str, float]]

    @abstractmethod
    def parts(self) -> dict[str, nn.ModuleList]:
        """Return the parts that have an optimizer each; frozen weights may be in them."""

    def train_mode(self) -> None:
        """Put everything that is trained, and nothing that is frozen, into training mode."""
        self.network.train()

    @abstractmethod
    def losses(self, batch: Any) -> Losses:
        """Compute the losses of a batch: float32 scalars, means over its samples."""

    def total(self, losses: Losses) -> Tensor:
        """Return the weighted sum of losses that the gradient is taken of."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    @abstractmethod
    def image_grid(self, batch: Any) -> UInt8Array:
        """Draw samples with predictions of the network in its current mode: (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class _WindowObjective(Objective):
    """A network that is trained on windows."""

    network: DeepMask | SharpMask
    weights: ClassVar[Mapping[str, float]] = {"mask": MASK_WEIGHT, "score": 1.0}

    def image_grid(self, batch: WindowBatch) -> UInt8Array:
        """Draw the first 16 windows of a batch in two rows, labels in green and answers in red.

        Masks are outlines; a score is a green or gray frame with the probability as a number.
        """
        network, deepmask = self.network, deepmask_of(self.network)
        patches, labels = batch.patches[: 2 * _COLUMNS], batch.labels[: 2 * _COLUMNS]
        shown = WindowBatch(head=batch.head, patches=patches, labels=labels)
        with torch.inference_mode():
            answer = network.patch_masks if batch.head == "mask" else network.patch_scores
            logits = answer(shown.tensors(deepmask)[0]).float().cpu().numpy()
        tiles = [
            _mask_tile(patch.copy(), label, logit, deepmask.context)
            if batch.head == "mask"
            else _score_tile(patch.copy(), bool(label), float(logit))
            for patch, label, logit in zip(patches, labels, logits, strict=True)
        ]
        width = min(_COLUMNS, len(tiles))
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % width)
        rows = [np.concatenate(tiles[i : i + width], axis=1) for i in range(0, len(tiles), width)]
        return np.concatenate(rows)


@dataclass(frozen=True)
class DeepMaskObjective(_WindowObjective):
    """DeepMask: every batch updates the trunk, and each head is updated by its own batches only."""

    network: DeepMask

    def parts(self) -> dict[str, nn.ModuleList]:
        """Return trunk, mask head and score head."""
        network = self.network
        # The layers that turn features into a window's vector belong to the trunk where both heads
        # read the vector, and to the mask head where the score head reads the features.
        vector = [network.neck, network.embed]
        shared = network.score.reads == "vectors"
        return {
            "trunk": nn.ModuleList([network.trunk, *(vector if shared else [])]),
            "mask": nn.ModuleList([network.mask, *([] if shared else vector)]),
            "score": nn.ModuleList([network.score]),
        }

    def losses(self, batch: WindowBatch) -> Losses:
        """Compute the loss of the head of the batch."""
        patches, labels = batch.tensors(self.network)
        if batch.head == "mask":
            return {"mask": mask_loss(self.network.patch_masks(patches).float(), labels)}
        return {"score": score_loss(self.network.patch_scores(patches).float(), labels)}


@dataclass(frozen=True)
class SharpMaskObjective(_WindowObjective):
    """The refinement of a trained DeepMask, which is frozen in place."""

    network: SharpMask

    def __post_init__(self) -> None:
        self.network.deepmask.requires_grad_(False)

    def parts(self) -> dict[str, nn.ModuleList]:
        """Return everything except DeepMask."""
        network = self.network
        return {"refinement": nn.ModuleList([network.encode, *network.refinements, network.mask])}

    def train_mode(self) -> None:
        """Turn dropout on, except in DeepMask."""
        self.network.train()
        self.network.deepmask.eval()

    def losses(self, batch: WindowBatch) -> Losses:
        """Compute the loss of the masks."""
        patches, labels = batch.tensors(self.network.deepmask)
        return {"mask": mask_loss(self.network.patch_masks(patches).float(), labels)}


@dataclass(frozen=True)
class MultiPathNetObjective(Objective):
    """A detector without its frozen layers, with one optimizer and one integral head per step.

    As in the original code, a batch is drawn and labeled by the threshold of one head and trains
    that head, which samples the sum over heads in section 3.3 of the paper.
    """

    network: MultiPathNet
    weights: ClassVar[Mapping[str, float]] = {"class": 1.0, "box": 1.0}

    def parts(self) -> dict[str, nn.ModuleList]:
        """Return the whole network as one part."""
        return {"detector": nn.ModuleList([self.network])}

    def losses(self, batch: RegionBatch) -> Losses:
        """Compute the integral loss of the classes and smooth L1 of the boxes."""
        class_logits, deltas = self._answer(batch.samples)
        device = deltas.device
        labels = torch.from_numpy(np.concatenate([s.labels for s in batch.samples], axis=1))
        labels = labels[batch.head].to(device)
        targets = torch.from_numpy(np.concatenate([s.targets for s in batch.samples])).to(device)
        return {
            "class": integral_loss(class_logits[batch.head, None].float(), labels[None]),
            "box": box_loss(deltas.float(), targets, labels),
        }

    def image_grid(self, batch: RegionBatch) -> UInt8Array:
        """Draw the regions of the first image with the classes that the network predicts."""
        with torch.inference_mode():
            class_logits, _ = self._answer(batch.samples[:1])
            classes = mean_of_softmaxes(class_logits.float()).argmax(1).cpu().numpy()
        return _draw_regions(batch.samples[0], classes)

    def _answer(self, samples: list[RegionSample]) -> tuple[Tensor, Tensor]:
        """Run the trunk on each image, and the towers on the regions of all of them at once."""
        network = self.network
        pooled = [self._pool(sample) for sample in samples]
        return network.logits([torch.cat(regions) for regions in zip(*pooled, strict=True)])

    def _pool(self, sample: RegionSample) -> list[Tensor]:
        network = self.network
        device = network.box_head.weight.device
        image = torch.from_numpy(sample.image).to(device)[None]
        features = network.features(network.own_trunk.normalization(image))
        return network.pool(features, torch.from_numpy(sample.boxes).to(device))


def _mask_tile(
    tile: UInt8Array, label: UInt8Array, logit: Float32Array, context: int
) -> UInt8Array:
    side = len(tile) - 2 * context
    for mask, color in ((label, _GREEN), ((logit > 0).astype(np.uint8), _RED)):
        window = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outlines, -1, color, 1, offset=(context, context))
    return tile


def _score_tile(tile: UInt8Array, label: bool, logit: float) -> UInt8Array:
    last = len(tile) - 1
    cv2.rectangle(tile, (0, 0), (last, last), _GREEN if label else _GRAY, 3)
    text = f"{1 / (1 + np.exp(-logit)):.2f}"
    cv2.putText(tile, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, _RED, 2)
    return tile


def _draw_regions(sample: RegionSample, classes: Int64Array) -> UInt8Array:
    """Draw the regions of an image: green and gray where the network is right, red elsewhere."""
    canvas = sample.image.copy()
    # The head of the lowest threshold labels the most regions as foreground; they are drawn on top.
    labels = sample.labels[0]
    for index in np.argsort(labels > 0, kind="stable"):
        right = _GREEN if labels[index] > 0 else _GRAY
        color = right if labels[index] == classes[index] else _RED
        x0, y0, x1, y1 = (int(value) for value in sample.boxes[index].round())
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), color, 2 if labels[index] > 0 else 1)
    return canvas
