# SPDX-License-Identifier: Apache-2.0
"""Samples of the three papers, the options of their samplers, and their random generators."""

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from foveate.arrays import Float32Array, Int64Array, UInt8Array
from foveate.typed_options import TypedOptions

S_co = TypeVar("S_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class MaskSample:
    """A window with an object in its middle, and the mask of the object.

    Args:
        patch: (192, 192, 3) uint8 RGB, 127 outside the image.
        mask: (S, S) uint8, 1 on the object, of the central 160 px of the patch. S is 112 for
            DeepMask and 160 for SharpMask.
    """

    patch: UInt8Array
    mask: UInt8Array


@dataclass(frozen=True, kw_only=True)
class ScoreSample:
    """A window, and whether an object of the canonical size is in its middle.

    Args:
        patch: (192, 192, 3) uint8 RGB, 127 outside the image.
        label: () uint8, 1 or 0.
    """

    patch: UInt8Array
    label: UInt8Array


@dataclass(frozen=True, kw_only=True)
class RegionSample:
    """An image with regions to classify; R = 64 regions, T = 6 integral thresholds.

    Args:
        image: (H, W, 3) uint8 RGB, at the size that the trunk gets.
        boxes: (R, 4) float32 x1, y1, x2, y2 in pixels of ``image``, right and bottom exclusive.
        labels: (T, R) int64 class from 1, or 0 for background, for each threshold.
        targets: (R, 4) float32 normalized regression targets; 0 where ``labels[0]`` is background.
    """

    image: UInt8Array
    boxes: Float32Array
    labels: Int64Array
    targets: Float32Array


class Sampler(Protocol[S_co]):
    """A sampler of single samples. Every sampler can be pickled, for worker processes."""

    def draw(self, rng: np.random.Generator) -> S_co:
        """Draw a sample, with ``rng`` as the only source of randomness."""


def sample_generator(seed: int, step: int, index: int) -> np.random.Generator:
    """Return the generator of one sample, which depends only on the arguments.

    Neither the number of workers nor that of processes changes the training: rank r of n draws
    the indices from r * batch / n on. ``step`` is the number of the optimizer step, and ``index``
    the place of the sample in the whole batch, both from 0.
    """
    return np.random.default_rng([seed, step, index])


@dataclass(frozen=True, kw_only=True)
class WindowOptions(TypedOptions):
    """The window of DeepMask and SharpMask, in pixels of the patch.

    Args:
        patch: Side of the network's input, ``wSz`` = 160 + 32.
        window: Side of the window whose object is outlined, in the middle of the patch, ``iSz``.
        canonical: Larger side of an object of the canonical size, ``objSz`` = ceil(160 * 128 /
            224): the paper's 128 px in a window of 224 (section 3.2).
        flip: Share of samples that are mirrored.
    """

    patch: int = 192
    window: int = 160
    canonical: float = 92.0
    flip: float = 0.5


@dataclass(frozen=True, kw_only=True)
class MaskSamplerOptions(TypedOptions):
    """Options of mask batches (DeepMask section 3.2; ``maskSampling``, ``jitterBox``).

    Args:
        window: Patch and window.
        label_side: Side of the label, ``gSz``: 112 for DeepMask (``train.lua -gSz``), 160 for
            SharpMask (there gSz = iSz).
        shift: Largest shift of the object from the middle on each axis, in pixels of the patch
            (``train.lua -shift``).
        octaves: Largest change of scale, up or down, in powers of 2 (``train.lua -scale``).
        least_area: Smallest annotated area of an object that is drawn, in square pixels of the
            image.
        least_side: Smallest width and height of its box, in pixels of the image.
    """

    window: WindowOptions = field(default_factory=WindowOptions)
    label_side: int = 112
    shift: float = 16.0
    octaves: float = 0.25
    least_area: float = 100.0
    least_side: float = 5.0


@dataclass(frozen=True, kw_only=True)
class ScoreSamplerOptions(TypedOptions):
    """Options of score batches (DeepMask section 3.2; ``scoreSampling``, ``createBBstruct``).

    Args:
        window: Patch and window.
        positive: Share of positives (``torch.uniform() > .5``).
        octaves: Step of the scale bins in powers of 2 (``-scale``). A positive is drawn from a bin,
            all bins that are not empty being equally likely, and shown at the scale of its bin.
        negative_shift: Distance on one axis, in pixels of the patch, from which an object does not
            prevent a negative (section 3.2: 32 px).
        negative_octaves: Difference from the canonical size, in octaves, from which an object does
            not prevent a negative (section 3.2: a factor of 2).
        negative_scales: Lowest and highest scale of a negative, in octaves; the scales between are
            ``octaves`` apart (``self.scales``).
        tries: Number of places that are tried for a negative before another image is drawn.
        least_side: Smallest side of a window, in pixels of the image.
    """

    window: WindowOptions = field(default_factory=WindowOptions)
    positive: float = 0.5
    octaves: float = 0.25
    # The original rule compares places in different frames (`LegacyOptions.unscaled_negatives`). In
    # one frame it would forbid every window within 2.5 octaves of an object, and the score would
    # never learn to separate scales. The default is therefore the rule of the paper.
    negative_shift: float = 32.0
    negative_octaves: float = 1.0
    negative_scales: tuple[float, float] = (-3.0, 2.0)
    tries: int = 100
    least_side: float = 10.0


@dataclass(frozen=True, kw_only=True)
class RegionSamplerOptions(TypedOptions):
    """Options of MultiPathNet's regions (section 4; ``train_coco.sh``, ``BatchProviderROI.lua``).

    Args:
        regions: Number of regions per image (``batchSize=64``).
        foreground: Share of regions that show an object (``fg_fraction``).
        thresholds: IoU from which a region shows an object, one per integral head (section 3.3;
            ``bg_threshold_max + (i - 1) / 20``). A single one gives the plain loss.
        least_overlap: IoU from which, up to the threshold, a region is background
            (``bg_threshold_min``).
        proposals: Number of best proposals per image to use (``best_proposals_number``).
        crowd_overlap: Largest share of a proposal that may lie in a crowd if it is to be drawn
            (``attachProposals``).
        short_side: Shorter side of the image that the trunk gets, in pixels (``scale=800``), unless
            the longer one would exceed ``long_side``.
        long_side: Bound of the longer side, in pixels (``max_size``).
        flip: Share of images that are mirrored.
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
