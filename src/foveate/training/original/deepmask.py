# SPDX-License-Identifier: Apache-2.0
"""DeepMask end to end: three optimisers, each head stepped by its own batches only."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.models.deepmask import DeepMask
from foveate.models.losses import mask_loss, score_loss
from foveate.training.loop import Losses
from foveate.training.original.sheets import window_sheet
from foveate.training.original.window_batches import WindowBatch

MASK_WEIGHT = 32.0
"""Weight of the mask loss against the score loss: 1 / lambda (DeepMask, section 3.1).

The released code gets it by multiplying a mask batch's gradient by the batch's size, so that lambda
depends on it; here it is the published 1/32 whatever the batch.
"""


class DeepMaskTask:
    """DeepMask, its trunk stepped by every batch, each head by its own batches only.

    Args:
        network: on the device that it is trained on.
    """

    def __init__(self, network: DeepMask):
        self.network: DeepMask = network

    def parts(self) -> dict[str, nn.ModuleList]:
        """Trunk, mask head and score head.

        What turns features into a window's vector belongs to the trunk where both heads read the
        vector, and to the mask head where the score head reads the features.
        """
        network = self.network
        vector = [network.neck, network.embed]
        shared = network.score.reads == "vectors"
        return {
            "trunk": nn.ModuleList([network.trunk, *(vector if shared else [])]),
            "mask": nn.ModuleList([network.mask, *([] if shared else vector)]),
            "score": nn.ModuleList([network.score]),
        }

    def stepped(self, batch: WindowBatch) -> tuple[str, ...]:
        """The trunk and the batch's head."""
        return ("trunk", batch.head)

    def train_mode(self) -> None:
        """Turn dropout on."""
        self.network.train()

    def losses(self, batch: WindowBatch) -> Losses:
        """The loss of the batch's head."""
        patches, labels = batch.tensors(self.network)
        if batch.head == "mask":
            return {"mask": mask_loss(self.network.patch_masks(patches).float(), labels)}
        return {"score": score_loss(self.network.patch_scores(patches).float(), labels)}

    def objective(self, losses: Losses) -> Tensor:
        """Weigh the losses as the published lambda has them; a batch in training has one."""
        weights = {"mask": MASK_WEIGHT, "score": 1.0}
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def sheet(self, batch: WindowBatch) -> NDArray[np.uint8]:
        """Draw the windows of the batch, labels in green, answers in red."""
        return window_sheet(self.network, batch)
