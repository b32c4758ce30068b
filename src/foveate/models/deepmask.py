# SPDX-License-Identifier: Apache-2.0
"""DeepMask: for every window of a grid, is an object centred in it, and which pixels are its own?

Pinheiro, Collobert & Dollar, "Learning to Segment Object Candidates" (NIPS 2015). There the score
head has a pooling and layers of its own (`FeatureScore`); in head C of "Learning to Refine Object
Segments" (ECCV 2016, section 4), which was released, both heads read one vector a window
(`VectorScore`).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from foveate.models.trunk import Trunk

WINDOW = 160
"""Side of a window in pixels of its pyramid level."""

STRIDE = 16
"""Step of the window grid, and stride of the features that a window's vector is made from."""

CELLS = WINDOW // STRIDE
"""Side of a window in cells of the stride-16 features."""

CANONICAL_SIDE = 92
"""Larger side, in pixels of the level, of an object that a window is trained to answer to:
ceil(160 * 128 / 224), the 128 px in a 224 px window of the first paper."""


class VectorScore(nn.Sequential):
    """The score head of head C: (N, vector, H, W) vectors to (N, 1, H, W) logits.

    The release trains with max(x, 1e-6) and runs with max(x, 0); both are ReLU here.

    Args:
        vector: length of a window's vector.
        hidden: width of the hidden layer.
    """

    reads: ClassVar[Literal["vectors", "features"]] = "vectors"

    def __init__(self, vector: int, hidden: int):
        super().__init__(
            nn.Dropout(0.5),
            nn.Conv2d(vector, hidden, 1),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(hidden, 1, 1),
        )


class FeatureScore(nn.Sequential):
    """The score head of the first paper: (N, C, H, W) features to logits, one a window.

    A window's features are pooled 2x2 and fed to three linear layers. Run over an image, pooling
    with stride 2 would leave every second window out; the paper pools at the four offsets and
    interleaves the results (section 3.3). Pooling with stride 1, and reading every second cell by a
    dilated convolution, is the same.

    Args:
        channels: of the features.
        cells: side of a window in cells, even.
        hidden: widths of the two hidden layers.
    """

    reads: ClassVar[Literal["vectors", "features"]] = "features"

    def __init__(self, channels: int, *, cells: int, hidden: tuple[int, int]):
        super().__init__(
            nn.MaxPool2d(2, stride=1),
            nn.Conv2d(channels, hidden[0], cells // 2, dilation=2),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(hidden[0], hidden[1], 1),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(hidden[1], 1, 1),
        )


class DeepMask(nn.Module):
    """Trunk, neck, and the two heads.

    Args:
        trunk: gives features of stride 16, among others.
        neck_channels: channels that they are reduced to before the windows' linear layer.
        vector: length of a window's vector, the low rank of the mask head.
        score: the score head.
        mask_side: side of the mask head's square output.
        supervised_side: side that training masks are upsampled to; `mask_side` if not given.
        window: side of a window in pixels.
        context: pixels that a training patch shows on each side of its window, a multiple of 16.
    """

    def __init__(
        self,
        *,
        trunk: Trunk,
        neck_channels: int,
        vector: int,
        score: VectorScore | FeatureScore,
        mask_side: int,
        supervised_side: int | None = None,
        window: int = WINDOW,
        context: int = STRIDE,
    ):
        super().__init__()
        self.trunk = trunk
        self.window = window
        self.context = context
        self.mask_side = mask_side
        self.supervised_side = supervised_side or mask_side
        self.neck = nn.Conv2d(trunk.channels[STRIDE], neck_channels, 1)
        self.embed = nn.Conv2d(neck_channels, vector, window // STRIDE)
        self.mask = nn.Linear(vector, mask_side * mask_side)
        self.score = score

    @property
    def patch_side(self) -> int:
        """Side of a training patch in pixels: the window and its context."""
        return self.window + 2 * self.context

    @property
    def border(self) -> int:
        """Pixels of fill around an image, so that the first window's centre is its corner."""
        return self.window // 2

    def vectors(self, features: Tensor) -> Tensor:
        """Compute one vector a window, fully convolutionally.

        Args:
            features: (N, C, H, W) trunk features of stride 16.

        Returns:
            (N, vector, H - n + 1, W - n + 1), n the side of a window in cells; no activation
            follows (models are linear up to the heads).
        """
        embedded: Tensor = self.embed(torch.relu(self.neck(features)))
        return embedded

    def scores(self, source: Tensor) -> Tensor:
        """Score windows.

        Args:
            source: what the score head reads: (N, vector, H, W) vectors, or for `FeatureScore`
                (N, C, H, W) trunk features.

        Returns:
            A logit of "an object is centred here" for every window, (N, 1, rows, columns).
        """
        logits: Tensor = self.score(source)
        return logits

    def windows(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Score every window of (N, C, H, W) trunk features: `scores` and `vectors`."""
        vectors = self.vectors(features)
        return self.scores(vectors if self.score.reads == "vectors" else features), vectors

    def masks(self, vectors: Tensor) -> Tensor:
        """Decode (K, vector) vectors to (K, mask_side, mask_side) mask logits over the window."""
        logits: Tensor = self.mask(vectors)
        return logits.reshape(-1, self.mask_side, self.mask_side)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score every window of an image.

        Args:
            image: (N, 3, H, W) float32, normalised as the trunk wants it, H and W multiples of
                16 and at least a window's side.

        Returns:
            Score logits (N, 1, rows, columns) and vectors (N, vector, rows, columns), where
            rows = H / 16 - n + 1, n the side of a window in cells; cell (r, c) is the window
            whose top left corner is pixel (16 c, 16 r).
        """
        return self.windows(self.trunk(image)[STRIDE])

    def patch_features(self, patches: Tensor) -> dict[int, Tensor]:
        """Compute the features of the windows of single patches.

        Args:
            patches: (N, 3, S, S) float32, normalised, S = `patch_side`.

        Returns:
            Stride -> (N, C, window / stride, window / stride), the context cropped away.
        """
        return {
            stride: crop(features, self.context // stride)
            for stride, features in self.trunk(patches).items()
            if stride <= STRIDE
        }

    def patch_scores(self, patches: Tensor) -> Tensor:
        """Score the window of each patch: (N,) logits. See `patch_features`."""
        scores, _ = self.windows(self.patch_features(patches)[STRIDE])
        return scores.flatten()

    def patch_masks(self, patches: Tensor) -> Tensor:
        """Decode the window of each patch, see `patch_features` and `supervised_masks`."""
        vectors = self.vectors(self.patch_features(patches)[STRIDE])
        return self.supervised_masks(vectors.flatten(1))

    def supervised_masks(self, vectors: Tensor) -> Tensor:
        """Decode (K, vector) vectors to the (K, supervised_side, supervised_side) that is trained.

        Upsampling is bilinear, and keeps the centres of the corners in place.
        """
        logits = self.masks(vectors)
        if self.supervised_side == self.mask_side:
            return logits
        side = (self.supervised_side, self.supervised_side)
        return nn.functional.interpolate(
            logits[:, None], side, mode="bilinear", align_corners=True
        ).squeeze(1)


def crop(features: Tensor, cells: int) -> Tensor:
    """Take `cells` rows and columns off each side of (N, C, H, W) features."""
    height, width = features.shape[2:]
    return features[:, :, cells : height - cells, cells : width - cells]
