# SPDX-License-Identifier: Apache-2.0
"""SharpMask: sharpen DeepMask's masks with the trunk's finer features, coarse to fine.

Pinheiro, Lin, Collobert & Dollar, "Learning to Refine Object Segments" (ECCV 2016), section 3. A
refinement module concatenates skip features with the mask encoding, convolves and doubles the
resolution. A convolution of a concatenation is the sum of two convolutions (section 3.3), so the
*horizontal* half runs once on a whole level and the *vertical* half on the chosen windows only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foveate.models.bilinear_upsample import BilinearUpsample2d
from foveate.models.deepmask import CELLS, DeepMask

SKIP_STRIDES = (16, 8, 4, 2)
"""Strides of the skip features, one refinement module each, in the order of refinement."""


class Refinement(nn.Module):
    """One refinement module: (skip features, mask encoding) -> encoding at twice the resolution.

    Args:
        skip_channels: channels of the trunk's features at this stride.
        reduced_channels: channels they are reduced to.
        inputs: channels of the incoming mask encoding.
        outputs: channels of the outgoing one.
    """

    def __init__(self, *, skip_channels: int, reduced_channels: int, inputs: int, outputs: int):
        super().__init__()
        self.horizontal = nn.Sequential(
            nn.Conv2d(skip_channels, reduced_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(reduced_channels, outputs, 3, padding=1),
        )
        self.vertical = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.upsample = BilinearUpsample2d(scale=2)

    def forward(self, encoding: Tensor, horizontal: Tensor) -> Tensor:
        """Refine.

        Args:
            encoding: (K, inputs, S, S) mask encodings.
            horizontal: (K, outputs, S, S) windows of the horizontal half's output.

        Returns:
            (K, outputs, 2 S, 2 S).
        """
        refined: Tensor = self.upsample(torch.relu(self.vertical(encoding) + horizontal))
        return refined


class SharpMask(nn.Module):
    """A DeepMask, kept frozen, and the top-down path that refines its masks.

    Args:
        deepmask: the proposal network.
        skip_channels: the trunk's channels at strides 16, 8, 4 and 2.
        reduced_channels: what the horizontal halves reduce them to.
        encoding_channels: channels of the mask encoding before and behind the four modules.
    """

    def __init__(
        self,
        *,
        deepmask: DeepMask,
        skip_channels: Sequence[int],
        reduced_channels: Sequence[int],
        encoding_channels: Sequence[int],
    ):
        super().__init__()
        self.deepmask = deepmask
        vector = deepmask.embed.out_channels
        self.encode = nn.Linear(vector, encoding_channels[0] * CELLS * CELLS)
        self.refinements = nn.ModuleList(
            Refinement(
                skip_channels=skip_channels[i],
                reduced_channels=reduced_channels[i],
                inputs=encoding_channels[i],
                outputs=encoding_channels[i + 1],
            )
            for i in range(len(SKIP_STRIDES))
        )
        self.mask = nn.Conv2d(encoding_channels[-1], 1, 3, padding=1)

    @property
    def coarse_to_fine(self) -> list[Refinement]:
        """The refinement modules in the order of `SKIP_STRIDES`."""
        return [module for module in self.refinements if isinstance(module, Refinement)]

    def horizontals(self, features: dict[int, Tensor]) -> list[Tensor]:
        """Run the horizontal halves over whole maps.

        Args:
            features: stride -> (N, C, H, W) trunk features.

        Returns:
            Four maps (N, outputs, H, W) at strides 16, 8, 4 and 2.
        """
        return [
            module.horizontal(features[stride])
            for module, stride in zip(self.coarse_to_fine, SKIP_STRIDES, strict=True)
        ]

    def refine(self, vectors: Tensor, horizontals: Sequence[Tensor]) -> Tensor:
        """Decode windows to masks.

        Args:
            vectors: (K, vector) window vectors of DeepMask.
            horizontals: four windows (K, outputs, S, S) of the horizontal maps, S = 10, 20, 40, 80.

        Returns:
            (K, 160, 160) mask logits over the window.
        """
        channels = self.encode.out_features // CELLS**2
        encoding: Tensor = self.encode(vectors).reshape(-1, channels, CELLS, CELLS)
        for module, horizontal in zip(self.coarse_to_fine, horizontals, strict=True):
            encoding = module(encoding, horizontal)
        logits: Tensor = self.mask(encoding)
        return logits.squeeze(1)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Score every window of a picture and prepare its refinement.

        Args:
            picture: as `DeepMask.forward` takes it.

        Returns:
            Score logits and vectors as `DeepMask.forward` gives them, and the four horizontal maps.
        """
        features = self.deepmask.trunk(picture)
        vectors = self.deepmask.vectors(features[SKIP_STRIDES[0]])
        return self.deepmask.scores(vectors), vectors, self.horizontals(features)
