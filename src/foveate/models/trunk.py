# SPDX-License-Identifier: Apache-2.0
"""What the three systems ask of a trunk."""

from __future__ import annotations

from torch import Tensor, nn

from foveate.models.normalisation import Normalisation


class Trunk(nn.Module):
    """A network from an image to features by stride.

    Attributes:
        normalisation: what it wants of an image's values.
        channels: stride -> channels of the features.
    """

    normalisation: Normalisation
    channels: dict[int, int]

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Compute the features.

        Args:
            image: (N, 3, H, W) float32, normalised; H and W are multiples of the last stride.

        Returns:
            Stride -> (N, C, H / stride, W / stride) features, C as in `channels`.
        """
        raise NotImplementedError  # every trunk has its own
