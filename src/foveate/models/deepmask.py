# SPDX-License-Identifier: Apache-2.0
"""DeepMask: is an object centered in this window, and which pixels of the window belong to it?

Pinheiro, Collobert & Dollar, "Learning to Segment Object Candidates" (NIPS 2015). There the score
head has a pooling and layers of its own (``FeatureScore``). In head C of "Learning to Refine Object
Segments" (ECCV 2016, section 4), which was released, both heads read one vector per window
(``VectorScore``).
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from foveate.models.trunk import Trunk

WINDOW = 160
"""Side of a window in pixels of its pyramid level."""

STRIDE = 16
"""Step of the window grid in pixels, and stride of the map from which window vectors are made."""

CELLS = WINDOW // STRIDE
"""Side of a window in cells of the map of stride 16."""

# ceil(160 * 128 / 224): 128 px in a window of 224 px in the first paper.
CANONICAL_SIDE = 92
"""Longer side, in pixels of the level, of an object that a window is trained to find."""


class VectorScore(nn.Sequential):
    """The score head of head C: from vectors (N, vector, H, W) to logits (N, 1, H, W).

    Args:
        vector: Length of the vector of a window.
        hidden: Width of the hidden layer.
    """

    reads: ClassVar[Literal["vectors", "features"]] = "vectors"

    def __init__(self, vector: int, hidden: int):
        super().__init__(
            nn.Dropout(0.5),
            nn.Conv2d(vector, hidden, 1),
            # The original code trains with max(x, 1e-6) and runs with max(x, 0).
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(hidden, 1, 1),
        )


class FeatureScore(nn.Sequential):
    """The score head of the first paper: from a map (N, C, H, W) to one logit per window.

    Args:
        channels: Channels of the map.
        cells: Side of a window in cells, an even number.
        hidden: Widths of the two hidden layers.
    """

    reads: ClassVar[Literal["vectors", "features"]] = "features"

    def __init__(self, channels: int, *, cells: int, hidden: tuple[int, int]):
        super().__init__(
            # Over an image, the paper pools 2x2 with stride 2 at four offsets and interleaves the
            # results (section 3.3). Stride 1 and a dilated convolution are the same in one pass.
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
    """A trunk, a neck, and the two heads.

    Args:
        trunk: Trunk with a map of stride 16.
        neck_channels: Channels to which that map is reduced before the linear layer of a window.
        vector: Length of the vector of a window, the low rank of the mask head.
        score: Score head.
        mask_side: Side of the square output of the mask head.
        supervised_side: Side to which training upsamples masks; ``mask_side`` if ``None``.
        window: Side of a window in pixels.
        context: Pixels that a training patch has on each side of its window, a multiple of 16.
        border: Pixels of fill around an image; half a window if ``None``, which centers the first
            window on the corner of the image.
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
        border: int | None = None,
    ):
        super().__init__()
        self.trunk = trunk
        self.window = window
        self.border = window // 2 if border is None else border
        self.context = context
        self.mask_side = mask_side
        self.supervised_side = supervised_side or mask_side
        self.neck = nn.Conv2d(trunk.channels[STRIDE], neck_channels, 1)
        # The linear layer of a window, as a convolution that runs over all windows.
        self.embed = nn.Conv2d(neck_channels, vector, window // STRIDE)
        self.mask = nn.Linear(vector, mask_side * mask_side)
        self.score = score

    @property
    def patch_side(self) -> int:
        """The side of a training patch in pixels: the window and its context."""
        return self.window + 2 * self.context

    def vectors(self, features: Tensor) -> Tensor:
        """Compute one vector per window of a map of stride 16, (N, C, H, W).

        Returns:
            Vectors (N, vector, H - n + 1, W - n + 1), where n is the side of a window in cells.
        """
        # No activation after it: mask head and this layer are one linear map of low rank.
        embedded: Tensor = self.embed(torch.relu(self.neck(features)))
        return embedded

    def scores(self, source: Tensor) -> Tensor:
        """Return the logit of "an object is centered here" of each window, (N, 1, rows, columns).

        Args:
            source: Vectors (N, vector, rows, columns); for ``FeatureScore`` the map of stride 16.
        """
        logits: Tensor = self.score(source)
        return logits

    def windows(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``scores`` and ``vectors`` of each window of a map of stride 16, (N, C, H, W)."""
        vectors = self.vectors(features)
        return self.scores(vectors if self.score.reads == "vectors" else features), vectors

    def masks(self, vectors: Tensor) -> Tensor:
        """Decode vectors (K, vector) to mask logits over the window (K, mask_side, mask_side)."""
        logits: Tensor = self.mask(vectors)
        return logits.reshape(-1, self.mask_side, self.mask_side)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score each window of an image.

        Args:
            image: Image normalized for the trunk, (N, 3, H, W) float32; H and W are multiples of 16
                and at least the side of a window.

        Returns:
            Score logits (N, 1, rows, columns) and vectors (N, vector, rows, columns), where
            rows = H / 16 - n + 1 and n is the side of a window in cells. Cell (r, c) is the window
            whose top left corner is pixel (16 c, 16 r) of ``image``.
        """
        return self.windows(self.trunk(image)[STRIDE])

    def patch_features(self, patches: Tensor) -> dict[int, Tensor]:
        """Compute the maps of the windows of single patches.

        Args:
            patches: Normalized patches, (N, 3, S, S) float32, where S is ``patch_side``.

        Returns:
            Maps (N, C, window / stride, window / stride) by stride, without the context.
        """

        def crop(features: Tensor, cells: int) -> Tensor:
            height, width = features.shape[2:]
            return features[:, :, cells : height - cells, cells : width - cells]

        return {
            stride: crop(features, self.context // stride)
            for stride, features in self.trunk(patches).items()
            if stride <= STRIDE
        }

    def patch_scores(self, patches: Tensor) -> Tensor:
        """Score the window of each patch: logits (N,). For the argument see ``patch_features``."""
        scores, _ = self.windows(self.patch_features(patches)[STRIDE])
        return scores.flatten()

    def patch_masks(self, patches: Tensor) -> Tensor:
        """Decode the window of each patch; see ``patch_features`` and ``supervised_masks``."""
        vectors = self.vectors(self.patch_features(patches)[STRIDE])
        return self.supervised_masks(vectors.flatten(1))

    def supervised_masks(self, vectors: Tensor) -> Tensor:
        """Decode vectors (K, vector) to the logits (K, side, side) that training compares."""
        logits = self.masks(vectors)
        if self.supervised_side == self.mask_side:
            return logits
        side = (self.supervised_side, self.supervised_side)
        # As in SpatialReSamplingEx of Torch7: the centers of the corners stay in place.
        return nn.functional.interpolate(
            logits[:, None], side, mode="bilinear", align_corners=True
        ).squeeze(1)
