# SPDX-License-Identifier: Apache-2.0
"""Samples of the three papers, the options of their samplers, and their random generators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import OptionError
from foveate.typed_options import TypedOptions

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


def _check(good: bool, name: str, expected: str, found: object) -> None:
    if not good:
        raise OptionError(f"{name} must be {expected}, found {found!r}")


@dataclass(frozen=True, kw_only=True)
class WindowOptions(TypedOptions):
    """The window of DeepMask and SharpMask, in pixels of the patch.

    Attributes:
        patch: side of the network's input, `wSz` = 160 + 32.
        window: side of the window whose object is outlined, in the middle of the patch, `iSz`.
        canonical: larger side of an object of the canonical size, `objSz` = ceil(160 x 128 / 224):
            the paper's 128 px in a window of 224 (section 3.2).
        flip: share of samples that are mirrored.
    """

    patch: int = 192
    window: int = 160
    canonical: float = 92.0
    flip: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 < self.window <= self.patch, "window", f"1 to patch ({self.patch})", self.window)
        even = (self.patch - self.window) % 2 == 0
        _check(even, "window", f"as even or odd as patch ({self.patch})", self.window)
        _check(
            0 < self.canonical <= self.window,
            "canonical",
            "above 0, at most window",
            self.canonical,
        )
        _check(0 <= self.flip <= 1, "flip", "0 to 1", self.flip)


@dataclass(frozen=True, kw_only=True)
class MaskSamplerOptions(TypedOptions):
    """Mask batches (DeepMask section 3.2; `maskSampling`, `jitterBox`).

    Attributes:
        window: patch and window.
        label_side: side of the label, `gSz`: 112 for DeepMask (`train.lua -gSz`), 160 for SharpMask
            (there gSz = iSz).
        shift: largest shift of the object from the middle on each axis, in pixels of the patch
            (`train.lua -shift`).
        octaves: largest change of scale, up or down, in powers of 2 (`train.lua -scale`).
        least_area: objects of a smaller annotated area, in pixels of the image, are not drawn.
        least_side: nor those whose box is narrower or lower.
    """

    window: WindowOptions = field(default_factory=WindowOptions)
    label_side: int = 112
    shift: float = 16.0
    octaves: float = 0.25
    least_area: float = 100.0
    least_side: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.label_side > 0, "label_side", "at least 1", self.label_side)
        _check(self.shift >= 0, "shift", "at least 0", self.shift)
        _check(self.octaves >= 0, "octaves", "at least 0", self.octaves)
        _check(self.least_side > 0, "least_side", "above 0", self.least_side)


@dataclass(frozen=True, kw_only=True)
class ScoreSamplerOptions(TypedOptions):
    """Score batches (DeepMask section 3.2; `scoreSampling`, `createBBstruct`).

    NOTE: Which negatives? The released rule compares places in different frames and cannot be
    meant (`LegacyOptions.unscaled_negatives`). With the frames put right it would forbid every
    window within 2.5 octaves around an object, so that the score would never learn to tell scales
    apart. So the default is the paper's: far enough away in place, or in scale.

    Attributes:
        window: patch and window.
        positive: share of positives (`torch.uniform() > .5`).
        octaves: step of the scale bins in powers of 2 (`-scale`). A positive is drawn from a bin,
            all bins that are not empty being equally likely, and shown at the scale of its bin.
        negative_shift: a window is negative if the middle of every object is at least so far from
            its own on one axis, in pixels of the patch (section 3.2: 32 px) ...
        negative_octaves: ... or the object is so many octaves larger or smaller than canonical
            (section 3.2: a factor of 2).
        negative_scales: lowest and highest scale of a negative, in octaves; steps of `octaves`
            between (`self.scales`).
        tries: places that are tried for a negative before another image is taken.
        least_side: a window is never smaller, in pixels of the image.
    """

    window: WindowOptions = field(default_factory=WindowOptions)
    positive: float = 0.5
    octaves: float = 0.25
    negative_shift: float = 32.0
    negative_octaves: float = 1.0
    negative_scales: tuple[float, float] = (-3.0, 2.0)
    tries: int = 100
    least_side: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(0 <= self.positive <= 1, "positive", "0 to 1", self.positive)
        _check(self.octaves > 0, "octaves", "above 0", self.octaves)
        low, high = self.negative_scales
        _check(low <= high, "negative_scales", "lowest, then highest", self.negative_scales)
        _check(self.tries >= 1, "tries", "at least 1", self.tries)


@dataclass(frozen=True, kw_only=True)
class RegionSamplerOptions(TypedOptions):
    """Regions for MultiPathNet (section 4 of the paper; `train_coco.sh`, `BatchProviderROI.lua`).

    Attributes:
        regions: of an image (`batchSize=64`).
        foreground: share of them that shows an object (`fg_fraction`).
        thresholds: IoU from which a region shows an object, one an integral head (section 3.3;
            `bg_threshold_max + (i - 1) / 20`). A single one gives the plain loss.
        least_overlap: IoU from which, and up to the threshold, a region is background
            (`bg_threshold_min`).
        proposals: best so many of an image (`best_proposals_number`).
        crowd_overlap: a proposal of which a larger share lies in a crowd is not drawn
            (`attachProposals`).
        short_side: of the image that the trunk sees, in pixels (`scale=800`) ...
        long_side: ... unless the other would be longer (`max_size`).
        flip: share of images that are mirrored.
    """

    regions: int = 64
    foreground: float = 0.25
    thresholds: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
    least_overlap: float = 0.1
    proposals: int = 1000
    crowd_overlap: float = 0.7
    short_side: int = 800
    long_side: int = 1000
    flip: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.regions >= 1, "regions", "at least 1", self.regions)
        _check(0 <= self.foreground <= 1, "foreground", "0 to 1", self.foreground)
        rising = list(self.thresholds) == sorted(set(self.thresholds))
        _check(bool(self.thresholds) and rising, "thresholds", "rising", self.thresholds)
        ranged = 0 <= self.least_overlap < self.thresholds[0] and self.thresholds[-1] <= 1
        _check(
            ranged,
            "least_overlap",
            "0 to below the first threshold, all at most 1",
            (self.least_overlap, *self.thresholds),
        )
        _check(
            0 < self.short_side <= self.long_side, "short_side", "1 to long_side", self.short_side
        )
