# SPDX-License-Identifier: Apache-2.0
"""Mask samples of DeepMask and SharpMask: objects, balanced over categories, nearly centered."""

from __future__ import annotations

from math import floor

import numpy as np
from numpy.typing import NDArray

from foveate.datasets import CocoDataset
from foveate.datasets.splits import no_objects
from foveate.evaluation.legacy import LegacyOptions
from foveate.training.sampling.samples import MaskSample, MaskSamplerOptions
from foveate.training.sampling.windows import Window, code_label, cut, polygon_label


class MaskSampler:
    """Draws windows with an object in their middle, and the mask of the object.

    All categories are equally likely, and so are all objects of one. Crowds and objects that are
    too small are never drawn.

    Args:
        dataset: Images and objects.
        options: Sizes and shares.
        legacy: Quirks of the original code.

    Raises:
        DataError: No object can be drawn.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        options: MaskSamplerOptions | None = None,
        legacy: LegacyOptions | None = None,
    ) -> None:
        self._dataset = dataset
        self._options = options or MaskSamplerOptions()
        self._legacy = legacy or LegacyOptions()
        table = dataset.annotations
        small = table.areas < self._options.least_area
        narrow = (table.boxes[:, 2:] < self._options.least_side).any(1)
        drawn = ~(table.crowds | small | narrow)
        if not drawn.any():
            reasons = {
                "are crowds": table.crowds,
                f"are smaller than {self._options.least_area:g} square pixels": small,
                f"are narrower than {self._options.least_side:g} pixels": narrow,
            }
            raise no_objects(dataset, {name: int(which.sum()) for name, which in reasons.items()})
        rows = np.flatnonzero(drawn)
        labels = table.labels[rows]
        self._by_category = [rows[labels == label] for label in np.unique(labels).tolist()]

    def draw(self, rng: np.random.Generator) -> MaskSample:
        """Draw a sample; see `MaskSample`.

        Raises:
            DataError: The image or the mask that was drawn is broken; the message names it.
        """
        rows = self._by_category[rng.integers(len(self._by_category))]
        row = int(rows[rng.integers(len(rows))])
        table = self._dataset.annotations
        options = self._options
        window = jittered_window(table.boxes[row], options, rng)
        whole = self._legacy.shifted_windows
        window = window.rounded() if whole else window.settled(options.window.patch)
        mirrored = rng.random() < options.window.flip
        image = self._dataset.image(int(table.images[row]))
        patch = cut(
            image,
            window,
            options.window.patch,
            aligned_corners=self._legacy.aligned_corners,
        )
        mask = self._label(row, window)
        if mirrored:
            patch, mask = _mirrored(patch), _mirrored(mask)
        return MaskSample(patch=patch, mask=mask)

    def _label(self, row: int, window: Window) -> NDArray[np.uint8]:
        table, options = self._dataset.annotations, self._options
        polygons = table.polygons(row)
        if not polygons:
            mask = table.mask(row)
            return code_label(
                mask, window, options.window.patch, options.window.window, options.label_side
            )
        shown = window.inner(options.window.window / options.window.patch)
        if self._legacy.shifted_windows:
            shown = _shifted(shown, options.label_side)
        return polygon_label(polygons, shown, options.label_side)


def jittered_window(
    box: NDArray[np.float64], options: MaskSamplerOptions, rng: np.random.Generator
) -> Window:
    """Draw the window of an object (`jitterBox`).

    The window is 192/92 as large as the larger side of the box times 2^u, u in +-`octaves`; the box
    is off its middle by up to `shift` pixels of the patch on each axis.

    Args:
        box: (4,) x, y, width, height in pixels of the image.
        options: Sizes and ranges.
        rng: Generator, of which three numbers are drawn.
    """
    x, y, width, height = box.tolist()
    octaves = rng.uniform(-options.octaves, options.octaves)
    pixel = max(width, height) / options.window.canonical * 2.0**octaves
    dx, dy = (rng.uniform(-options.shift, options.shift, 2) * pixel).tolist()
    return Window.around(x + width / 2 + dx, y + height / 2 + dy, options.window.patch * pixel)


def _shifted(shown: Window, size: int) -> Window:
    """Place the window of a label as `cropTensor` does: its corner is counted from 1."""
    pixels = size / shown.side
    left, top = (floor((v + 1) * pixels + 0.5) / pixels for v in (shown.left, shown.top))
    return Window(left=left, top=top, side=shown.side)


def _mirrored(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array[:, ::-1])
