# SPDX-License-Identifier: Apache-2.0
"""What a sampler draws, and how a draw is made a function of seed, step and place in the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

S_co = TypeVar("S_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class MaskSample:
    """A window with an object in its middle, and the object's mask.

    Attributes:
        patch: (192, 192, 3) uint8 RGB, 127 outside the image.
        mask: (S, S) uint8, 1 on the object, of the patch's central 160 px; S is 112 for DeepMask
            and 160 for SharpMask.
    """

    patch: NDArray[np.uint8]
    mask: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ScoreSample:
    """A window, and whether an object of the canonical size is in its middle.

    Attributes:
        patch: (192, 192, 3) uint8 RGB, 127 outside the image.
        label: () uint8, 1 or 0.
    """

    patch: NDArray[np.uint8]
    label: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class RegionSample:
    """An image, and regions of it to be classified; R = 64, T = 6 integral thresholds.

    Attributes:
        image: (H, W, 3) uint8 RGB, at the size that the trunk sees.
        boxes: (R, 4) float32 x1, y1, x2, y2 in pixels of `image`, right and bottom exclusive.
        labels: (T, R) int64, by threshold the class from 1, or 0 for background.
        targets: (R, 4) float32, the normalised way from each box to its object's; 0 where
            `labels[0]` is background.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    targets: NDArray[np.float32]


class Sampler(Protocol[S_co]):
    """Draws one sample at a time. Every sampler can be pickled, for worker processes."""

    def draw(self, rng: np.random.Generator) -> S_co:
        """Draw a sample; `rng` is the only source of randomness."""


def sample_generator(seed: int, step: int, index: int) -> np.random.Generator:
    """Make the generator of one sample.

    NOTE: A sample depends on nothing else, so that neither the number of workers nor that of
    processes changes what is trained on: rank r of n takes the indices from r x batch / n on.

    Args:
        seed: of the training, not negative.
        step: of the optimiser, from 0.
        index: place of the sample in the global batch, from 0.
    """
    return np.random.default_rng([seed, step, index])
