# SPDX-License-Identifier: Apache-2.0
"""SharpMask: the refinement of a trained DeepMask, which stays frozen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.models.losses import mask_loss
from foveate.models.sharpmask import SharpMask
from foveate.training.loop import Losses
from foveate.training.original.deepmask import MASK_WEIGHT
from foveate.training.original.sheets import window_sheet
from foveate.training.original.window_batches import WindowBatch


class SharpMaskTask:
    """The refinement of a frozen DeepMask.

    Args:
        network: on the device that it is trained on; its DeepMask gets frozen.
    """

    def __init__(self, network: SharpMask):
        self.network: SharpMask = network
        network.deepmask.requires_grad_(False)

    def parts(self) -> dict[str, nn.ModuleList]:
        """Everything but DeepMask."""
        network = self.network
        return {"refinement": nn.ModuleList([network.encode, *network.refinements, network.mask])}

    def stepped(self, batch: WindowBatch) -> tuple[str, ...]:  # noqa: ARG002 - there is one part
        """The refinement."""
        return ("refinement",)

    def train_mode(self) -> None:
        """Leave DeepMask as it answers when it is used."""
        self.network.train()
        self.network.deepmask.eval()

    def losses(self, batch: WindowBatch) -> Losses:
        """The loss of the masks."""
        patches, labels = batch.tensors(self.network.deepmask)
        return {"mask": mask_loss(self.network.patch_masks(patches).float(), labels)}

    def objective(self, losses: Losses) -> Tensor:
        """Weigh the loss as DeepMask's is."""
        return MASK_WEIGHT * losses["mask"]

    def sheet(self, batch: WindowBatch) -> NDArray[np.uint8]:
        """Draw the windows of the batch, labels in green, answers in red."""
        return window_sheet(self.network, batch)
