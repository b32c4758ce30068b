# SPDX-License-Identifier: Apache-2.0
"""DeepMask: for every window of a grid, is an object centred in it, and which pixels are its own?

Pinheiro, Collobert & Dollar, "Learning to Segment Object Candidates" (NIPS 2015), with head C of
"Learning to Refine Object Segments" (ECCV 2016, section 4): both heads read one vector a window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WINDOW = 160
"""Side of a window in pixels of its pyramid level."""

STRIDE = 16
"""Step of the window grid, and stride of the features that a window's vector is made from."""

CELLS = WINDOW // STRIDE
"""Side of a window in cells of the stride-16 features."""

CANONICAL_SIDE = 92
"""Larger side, in pixels of the level, of an object that a window is trained to answer to:
ceil(160 * 128 / 224), the 128 px in a 224 px window of the first paper."""


class DeepMask(nn.Module):
    """Trunk, neck, and the two heads.

    Args:
        trunk: maps a picture to features by stride, 16 among them; stays frozen.
        trunk_channels: channels of the trunk's stride-16 features.
        neck_channels: channels they are reduced to before the windows' linear layer.
        vector: length of a window's vector, the low rank of the mask head.
        score_hidden: width of the score head's hidden layer.
        mask_side: side of the mask head's square output.
    """

    def __init__(
        self,
        *,
        trunk: nn.Module,
        trunk_channels: int,
        neck_channels: int,
        vector: int,
        score_hidden: int,
        mask_side: int,
    ):
        super().__init__()
        self.trunk = trunk
        self.mask_side = mask_side
        self.neck = nn.Conv2d(trunk_channels, neck_channels, 1)
        self.embed = nn.Conv2d(neck_channels, vector, CELLS)
        self.mask = nn.Linear(vector, mask_side * mask_side)
        self.score = nn.Sequential(
            nn.Dropout(0.5),
            nn.Conv2d(vector, score_hidden, 1),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(score_hidden, 1, 1),
        )

    def vectors(self, features: Tensor) -> Tensor:
        """Compute one vector a window, fully convolutionally.

        Args:
            features: (N, C, H, W) trunk features of stride 16.

        Returns:
            (N, vector, H - 9, W - 9); no activation follows (models are linear up to the heads).
        """
        embedded: Tensor = self.embed(torch.relu(self.neck(features)))
        return embedded

    def scores(self, vectors: Tensor) -> Tensor:
        """Score (N, vector, H, W) vectors: (N, 1, H, W) logits of "an object is centred here"."""
        logits: Tensor = self.score(vectors)
        return logits

    def masks(self, vectors: Tensor) -> Tensor:
        """Decode (K, vector) vectors to (K, mask_side, mask_side) mask logits over the window."""
        logits: Tensor = self.mask(vectors)
        return logits.reshape(-1, self.mask_side, self.mask_side)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Score every window of a picture.

        Args:
            picture: (N, 3, H, W) float32, normalised as the trunk wants it, H and W multiples of
                16 and at least 160.

        Returns:
            Score logits (N, 1, H / 16 - 9, W / 16 - 9) and vectors (N, vector, same, same); cell
            (r, c) is the window whose top left corner is pixel (16 c, 16 r).
        """
        vectors = self.vectors(self.trunk(picture)[STRIDE])
        return self.scores(vectors), vectors
