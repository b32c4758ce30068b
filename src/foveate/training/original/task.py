# SPDX-License-Identifier: Apache-2.0
"""What a network brings to the published training."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.training.loop import Losses

B_contra = TypeVar("B_contra", contravariant=True)


class Task(Protocol[B_contra]):
    """A network on its device, which of its weights are stepped when, and its losses."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def parts(self) -> dict[str, nn.ModuleList]:
        """Divide the network into parts with an optimiser each; frozen weights may be in them."""

    def stepped(self, batch: B_contra) -> tuple[str, ...]:
        """Name the parts that this batch trains."""

    def train_mode(self) -> None:
        """Put what is trained, and nothing that is frozen, into training mode."""

    def losses(self, batch: B_contra) -> Losses:
        """Compute the losses of a batch: float32 scalars, means over its samples."""

    def objective(self, losses: Losses) -> Tensor:
        """Weigh and add losses: what the gradient is taken of."""

    def sheet(self, batch: B_contra) -> NDArray[np.uint8]:
        """Draw samples with what the network, in evaluation mode, makes of them.

        Returns:
            (H, W, 3) uint8 RGB.
        """
