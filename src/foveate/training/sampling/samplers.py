# SPDX-License-Identifier: Apache-2.0
"""Samplers of DeepMask and SharpMask: windows with masks, and windows with scores."""

from dataclasses import dataclass, field
from math import floor

import numpy as np

from foveate.arrays import Float64Array, Int64Array, UInt8Array
from foveate.datasets import CocoDataset
from foveate.datasets.splits import no_objects
from foveate.errors import DataError
from foveate.evaluation.legacy import LegacyOptions
from foveate.training.sampling.samples import (
    MaskSample,
    MaskSamplerOptions,
    ScoreSample,
    ScoreSamplerOptions,
)
from foveate.training.sampling.windows import Window, code_label, cut, polygon_label


@dataclass
class MaskSampler:
    """Sampler of windows with an object in their middle, and of the mask of the object.

    All categories are equally likely, and so are all objects of one. Crowds and objects that are
    too small are never drawn.

    Args:
        dataset: Images and objects.
        options: Sizes and shares.
        legacy: Quirks of the original code.

    Raises:
        DataError: No object can be drawn.
    """

    dataset: CocoDataset
    options: MaskSamplerOptions = field(default_factory=MaskSamplerOptions)
    legacy: LegacyOptions = field(default_factory=LegacyOptions)

    def __post_init__(self) -> None:
        table = self.dataset.annotations
        small = table.areas < self.options.least_area
        narrow = table.boxes[:, 2:].min(axis=1) < self.options.least_side
        drawn = ~(table.crowds | small | narrow)
        if not drawn.any():
            reasons = {
                "are crowds": table.crowds,
                f"are smaller than {self.options.least_area:g} square pixels": small,
                f"are narrower than {self.options.least_side:g} pixels": narrow,
            }
            raise no_objects(self.dataset, reasons)
        rows = np.flatnonzero(drawn)
        labels = table.labels[rows]
        self._by_category = [rows[labels == label] for label in np.unique(labels).tolist()]

    def draw(self, rng: np.random.Generator) -> MaskSample:
        """Draw a sample; see ``MaskSample``.

        Raises:
            DataError: The image or the mask that was drawn is broken; the message names it.
        """
        table, options = self.dataset.annotations, self.options
        rows = self._by_category[rng.integers(len(self._by_category))]
        row = int(rows[rng.integers(len(rows))])
        window = jittered_window(table.boxes[row], options, rng)
        size, aligned = options.window.patch, self.legacy.aligned_corners
        window = window.rounded() if self.legacy.shifted_windows else window.settled(size)
        mirrored = rng.random() < options.window.flip
        image = self.dataset.image(int(table.images[row]))
        patch = cut(image, window, size, aligned_corners=aligned)
        mask = self._label(row, window)
        if mirrored:
            patch, mask = _mirrored(patch), _mirrored(mask)
        return MaskSample(patch=patch, mask=mask)

    def _label(self, row: int, window: Window) -> UInt8Array:
        table, options = self.dataset.annotations, self.options
        patch, inner = options.window.patch, options.window.window
        polygons = table.polygons(row)
        if not polygons:
            return code_label(table.mask(row), window, patch, inner, options.label_side)
        shown = window.inner(inner / patch)
        if self.legacy.shifted_windows:
            shown = _shifted(shown, options.label_side)
        return polygon_label(polygons, shown, options.label_side)


def jittered_window(
    box: Float64Array, options: MaskSamplerOptions, rng: np.random.Generator
) -> Window:
    """Draw the window of an object by its (4,) box x, y, width, height (``jitterBox``).

    The window is 192/92 as large as the larger side of the box times 2^u, u in +-``octaves``; the
    box is off its middle by up to ``shift`` pixels of the patch on each axis.
    """
    x, y, width, height = box.tolist()
    octaves = rng.uniform(-options.octaves, options.octaves)
    pixel = max(width, height) / options.window.canonical * 2.0**octaves
    dx, dy = (rng.uniform(-options.shift, options.shift, 2) * pixel).tolist()
    return Window.around(x + width / 2 + dx, y + height / 2 + dy, options.window.patch * pixel)


def _shifted(shown: Window, size: int) -> Window:
    """Place the window of a label as ``cropTensor`` does: its corner is counted from 1."""
    pixels = size / shown.side
    left, top = (floor((v + 1) * pixels + 0.5) / pixels for v in (shown.left, shown.top))
    return Window(left=left, top=top, side=shown.side)


def _mirrored(array: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(array[:, ::-1])


_MOST_BINS = 32  # steps of scale from the canonical size, beyond which objects are ignored
_IMAGES = 100  # images in a row without a place for a negative, after which an error is raised

# x and y of the middle of a window in pixels of the image, and its scale in octaves: the patch
# shows the image enlarged by 2^scale.
Place = tuple[float, float, float]


@dataclass
class ScoreSampler:
    """Sampler of windows that contain a centered object of the canonical size, or none.

    All images with an object are equally likely, then all its scales, then all objects of one;
    there is no jitter. A crowd is not an object, but prevents negatives.

    Args:
        dataset: Images and objects.
        options: Sizes and shares.
        legacy: Quirks of the original code.

    Raises:
        DataError: No image has an object.
    """

    dataset: CocoDataset
    options: ScoreSamplerOptions = field(default_factory=ScoreSamplerOptions)
    legacy: LegacyOptions = field(default_factory=LegacyOptions)

    def __post_init__(self) -> None:
        table = self.dataset.annotations
        sides = table.boxes[:, 2:].max(axis=1, initial=0.0)
        self._bins = scale_bins(sides, self.options, self.legacy)
        usable = np.abs(self._bins) <= _MOST_BINS
        if not self.legacy.crowds_as_positives:
            usable &= ~table.crowds
        self._usable = usable
        self._images = np.unique(table.images[usable])
        if not len(self._images):
            far = ~self._usable & ~table.crowds
            reasons = {"are crowds": table.crowds, "are too small or large": far}
            raise no_objects(self.dataset, reasons)

    def draw(self, rng: np.random.Generator) -> ScoreSample:
        """Draw a sample; see ``ScoreSample``.

        Raises:
            DataError: The image that was drawn is broken; the message names it.
        """
        positive = bool(rng.random() < self.options.positive)
        image, place = self._positive(rng) if positive else self._negative(rng)
        mirrored = rng.random() < self.options.window.flip
        size, aligned = self.options.window.patch, self.legacy.aligned_corners
        window = self.window(image, place)
        patch = cut(self.dataset.image(image), window, size, aligned_corners=aligned)
        if mirrored:
            patch = _mirrored(patch)
        return ScoreSample(patch=patch, label=np.array(positive, np.uint8))

    def window(self, image: int, place: Place) -> Window:
        """Return the window that a patch at a place shows; its middle never leaves the image."""
        height, width = self.dataset.annotations.sizes[image].tolist()
        x, y, scale = place
        options = self.options
        side = max(options.window.patch * 2.0**-scale, options.least_side)
        if self.legacy.shifted_windows:
            # Counted from 1, and truncated by the conversion to whole numbers.
            x, y = min(max(x, 1.0), width), min(max(y, 1.0), height)
            half = floor(side / 2)
            return Window(left=floor(x) - 1 - half, top=floor(y) - 1 - half, side=floor(side))
        x, y = min(max(x, 0.0), width), min(max(y, 0.0), height)
        return Window.around(x, y, side).settled(options.window.patch)

    def _draw_image(self, rng: np.random.Generator) -> int:
        return int(self._images[rng.integers(len(self._images))])

    def _positive(self, rng: np.random.Generator) -> tuple[int, Place]:
        image = self._draw_image(rng)
        rows = self.dataset.rows(image)
        rows = rows[self._usable[rows]]
        bins = np.unique(self._bins[rows])
        chosen = bins[rng.integers(len(bins))]
        rows = rows[self._bins[rows] == chosen]
        row = rows[rng.integers(len(rows))]
        x, y, width, height = self.dataset.annotations.boxes[row].tolist()
        return image, (x + width / 2, y + height / 2, -float(chosen) * self.options.octaves)

    def _negative(self, rng: np.random.Generator) -> tuple[int, Place]:
        options = self.options
        low, high = options.negative_scales
        steps = round((high - low) / options.octaves)
        for _ in range(_IMAGES):
            image = self._draw_image(rng)
            height, width = self.dataset.annotations.sizes[image].tolist()
            for attempt in range(options.tries):
                scale = low + options.octaves * int(rng.integers(steps + 1))
                place = (rng.uniform(0, width), rng.uniform(0, height), scale)
                last = attempt == options.tries - 1
                if self._is_negative(image, place, last=last):
                    return image, place
        raise DataError(
            f"in {_IMAGES} images in a row no window is a negative",
            file=self.dataset.file,
            remedy="lower negative_shift or negative_octaves",
        )

    def _is_negative(self, image: int, place: Place, *, last: bool) -> bool:
        rows = self.dataset.rows(image)
        boxes = self.dataset.annotations.boxes[rows]
        if self.legacy.unscaled_negatives:
            return last or _is_unscaled_negative(place, boxes, self._bins[rows], self.options)
        return is_negative(place, boxes, self.options)


def scale_bins(
    sides: Float64Array, options: ScoreSamplerOptions, legacy: LegacyOptions
) -> Int64Array:
    """Return (N,) bins of scale: an object of bin b is shown enlarged by 2^(-b * ``octaves``).

    The bin of ``sides``, the larger sides of boxes in pixels, is 0 for the canonical size, and
    positive for larger objects. The quirk takes the lower of two possible bins
    (``createBBstruct``).
    """
    steps = np.log2(np.maximum(sides, 1e-9) / options.window.canonical) / options.octaves
    bins = np.ceil(steps - 1) if legacy.one_sided_scales else np.floor(steps + 0.5)
    return bins.astype(np.int64)


def is_negative(place: Place, boxes: Float64Array, options: ScoreSamplerOptions) -> bool:
    """Return whether no object is nearly centered and nearly canonical (DeepMask, section 3.2).

    ``boxes`` are (N, 4) x, y, width, height of the objects in pixels of the image.
    """
    x, y, scale = place
    sides = np.maximum(boxes[:, 2:].max(axis=1, initial=0.0), 1e-9)
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    distances = np.abs(centers - (x, y)).max(axis=1, initial=0.0) * 2.0**scale
    octaves = np.abs(np.log2(sides / options.window.canonical) + scale)
    near = (distances < options.negative_shift) & (octaves < options.negative_octaves)
    return not near.any()


def _is_unscaled_negative(
    place: Place, boxes: Float64Array, bins: Int64Array, options: ScoreSamplerOptions
) -> bool:
    """Apply the original rule (``negSamplingBB``): 48 px, +-10 bins, a frame for each center."""
    x, y, scale = place
    scales = -bins * options.octaves
    centers = (boxes[:, :2] + boxes[:, 2:] / 2) * 2.0 ** scales[:, None]
    distances = np.hypot(*(centers - np.array([x, y]) * 2.0**scale).T)
    compared = np.abs(scales - scale) <= 10 * options.octaves
    return not (compared & (distances < 3 * 16)).any()
