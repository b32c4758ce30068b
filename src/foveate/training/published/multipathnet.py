# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet and Fast R-CNN: pictures with regions, the integral loss, and box regression."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.models.losses import box_loss, integral_loss
from foveate.models.multipathnet import MultiPathNet, mean_of_softmaxes
from foveate.training.loop import Losses
from foveate.training.published.sheets import region_sheet
from foveate.training.sampling import RegionSample, Sampler


class RegionSource:
    """Draws pictures with their regions: a `training.loader.Source`.

    Args:
        regions: sampler of pictures and regions.
    """

    def __init__(self, regions: Sampler[RegionSample]):
        self._regions = regions

    def draw(self, step: int, rng: np.random.Generator) -> RegionSample:  # noqa: ARG002
        """Draw a picture; every step trains the same heads."""
        return self._regions.draw(rng)

    def collate(self, samples: list[RegionSample]) -> list[RegionSample]:
        """Leave pictures of different sizes side by side."""
        return samples


class MultiPathNetTask:
    """All of a detector that is not frozen, with one optimiser.

    Args:
        network: on the device that it is trained on.
    """

    def __init__(self, network: MultiPathNet):
        self.network: MultiPathNet = network

    def parts(self) -> dict[str, nn.ModuleList]:
        """Everything."""
        return {"detector": nn.ModuleList([self.network])}

    def stepped(self, batch: list[RegionSample]) -> tuple[str, ...]:  # noqa: ARG002
        """Everything."""
        return ("detector",)

    def train_mode(self) -> None:
        """Turn dropout on."""
        self.network.train()

    def losses(self, batch: list[RegionSample]) -> Losses:
        """Compute the integral loss of the classes and smooth L1 of the boxes."""
        class_logits, deltas = self._answer(batch)
        device = deltas.device
        labels = torch.from_numpy(np.concatenate([s.labels for s in batch], axis=1)).to(device)
        targets = torch.from_numpy(np.concatenate([s.targets for s in batch])).to(device)
        return {
            "class": integral_loss(class_logits.float(), labels),
            "box": box_loss(deltas.float(), targets, labels[0]),
        }

    def objective(self, losses: Losses) -> Tensor:
        """Add both, with equal weights."""
        return losses["class"] + losses["box"]

    def sheet(self, batch: list[RegionSample]) -> NDArray[np.uint8]:
        """Draw the first picture's regions, by what the network calls them."""
        with torch.inference_mode():
            class_logits, _ = self._answer(batch[:1])
            found = mean_of_softmaxes(class_logits.float()).argmax(1).cpu().numpy()
        return region_sheet(batch[0], found)

    def _answer(self, batch: list[RegionSample]) -> tuple[Tensor, Tensor]:
        """Run the trunk on each picture, and the towers on the regions of all of them at once."""
        network = self.network
        pooled = [self._pool(sample) for sample in batch]
        return network.logits([torch.cat(regions) for regions in zip(*pooled, strict=True)])

    def _pool(self, sample: RegionSample) -> list[Tensor]:
        network = self.network
        device = network.box_head.weight.device
        picture = torch.from_numpy(sample.picture).to(device)[None]
        features = network.features(network.trunk.normalisation(picture))
        return network.pool(features, torch.from_numpy(sample.boxes).to(device))
