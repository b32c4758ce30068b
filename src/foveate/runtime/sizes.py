# SPDX-License-Identifier: Apache-2.0
"""All sizes that follow from the size of an image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log2, sqrt
from typing import TYPE_CHECKING

from foveate.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.bundle.manifest import FeaturesSpec, Manifest, WindowSpec
    from foveate.bundle.pyramid import PyramidSpec


@dataclass(frozen=True, kw_only=True)
class LevelSizes:
    """Sizes of one level of the pyramid, in pixels, and of the grid of windows on its canvas.

    ``horizontal`` and ``vertical`` are image pixels per pixel of the level.
    """

    height: int
    width: int
    canvas_height: int
    canvas_width: int
    rows: int
    columns: int
    horizontal: float
    vertical: float


@dataclass(frozen=True, kw_only=True)
class FeaturesSizes:
    """Sizes of the image as the classifier sees it, on the canvas of a level or on one of its own.

    ``level`` is the index of the level, or None. ``border`` is the row and the column of the image's
    first pixel on the canvas; ``horizontal`` and ``vertical`` are canvas pixels per image pixel.
    """

    height: int
    width: int
    canvas_height: int
    canvas_width: int
    border: int
    horizontal: float
    vertical: float
    level: int | None


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the image, of the working image, of the levels, and of what the classifier sees."""

    height: int
    width: int
    working_height: int
    working_width: int
    levels: tuple[LevelSizes, ...]
    features: FeaturesSizes | None

    @property
    def windows(self) -> int:
        """Number of windows of all levels."""
        return sum(level.rows * level.columns for level in self.levels)

    @classmethod
    def of(cls, height: int, width: int, manifest: Manifest) -> Sizes:
        """Return the sizes for an image of ``height`` x ``width`` pixels."""
        pyramid, windows, spec = manifest.pyramid, manifest.windows, manifest.features
        shrink = min(1.0, pyramid.max_side / max(height, width))
        working_height, working_width = _scaled(height, shrink), _scaled(width, shrink)
        levels = tuple(
            _level(height, width, _scaled(working_height, s), _scaled(working_width, s), windows)
            for s in pyramid.scales
        )
        features = None
        if spec is not None:
            scale = classifier_scale(working_height, working_width, spec)
            if manifest.shares_trunk:
                level = nearest_level(pyramid.scales, scale)
                features = _on_level(height, width, level, levels[level], windows.padding)
            else:
                size = _scaled(working_height, scale), _scaled(working_width, scale)
                multiple = manifest.stages["features"].largest_stride
                features = _on_own_canvas(height, width, *size, multiple)
        return cls(
            height=height,
            width=width,
            working_height=working_height,
            working_width=working_width,
            levels=levels,
            features=features,
        )


def classifier_scale(height: int, width: int, spec: FeaturesSpec) -> float:
    """Return the scale at which a classifier sees a working image of ``height`` x ``width``."""
    short, long = sorted((height, width))
    # As in Fast R-CNN: the short side is fixed unless the long side becomes too long.
    return min(spec.short_side / short, spec.long_side / long)


def nearest_level(scales: Sequence[float], scale: float) -> int:
    """Return the index of the level whose scale is nearest in octaves; the first of equal ones."""
    return min(range(len(scales)), key=lambda level: abs(log2(scales[level] / scale)))


def longest_level(spec: FeaturesSpec, pyramid: PyramidSpec) -> int:
    """Return a bound of the longer side of the level that a classifier sees, of any image.

    It holds for all levels, and for some of them whose neighbors are an octave apart at most.
    """
    # A level is nearest to a scale up to half of the way, in octaves, from its neighbor; beyond the
    # ends of the pyramid, only the smallest level may be larger than what the classifier asks for.
    scales = sorted(pyramid.scales)
    farthest = max(sqrt(2), *(sqrt(high / low) for low, high in pairwise(scales)), 0.0)
    return ceil(max(spec.long_side * farthest, pyramid.max_side * scales[0]))


def check_classifiable(sizes: Sizes, manifest: Manifest) -> None:
    """Check that a classifier can pool boxes of any length from the level that it sees.

    Args:
        sizes: Sizes of an image, with the options of a pipeline applied.
        manifest: Manifest of the bundle, as it was exported.

    Raises:
        InputError: The level is longer than those that the bundle was exported for, which takes a
            longer working image than the bundle's own.
    """
    seen, spec = sizes.features, manifest.features
    if seen is None or seen.level is None or spec is None:
        return  # a classifier that reads an image of its own shrinks it to its longest side
    longest = longest_level(spec, manifest.pyramid)
    if max(seen.height, seen.width) > longest:
        working = f"{sizes.working_width}x{sizes.working_height}"
        most = floor(longest / min(manifest.pyramid.scales))
        raise InputError(
            f"the classifier takes a working image of at most {most} pixels on its longer side, "
            f"found {working}",
            remedy=f"load the bundle with pyramid='working-size' and max_side of at most {most}, or "
            "use Pipeline.propose",
        )


def _scaled(side: int, scale: float) -> int:
    return max(1, floor(scale * side + 0.5))  # halves round up, unlike round()


def _level(
    image_height: int, image_width: int, height: int, width: int, windows: WindowSpec
) -> LevelSizes:
    canvas_height, canvas_width = windows.canvas_side(height), windows.canvas_side(width)
    inside = windows.size // windows.stride - 1
    return LevelSizes(
        height=height,
        width=width,
        canvas_height=canvas_height,
        canvas_width=canvas_width,
        rows=canvas_height // windows.stride - inside,
        columns=canvas_width // windows.stride - inside,
        horizontal=image_width / width,
        vertical=image_height / height,
    )


def _on_level(
    image_height: int, image_width: int, index: int, level: LevelSizes, padding: int
) -> FeaturesSizes:
    return FeaturesSizes(
        height=level.height,
        width=level.width,
        canvas_height=level.canvas_height,
        canvas_width=level.canvas_width,
        border=padding,
        horizontal=level.width / image_width,
        vertical=level.height / image_height,
        level=index,
    )


def _on_own_canvas(
    image_height: int, image_width: int, height: int, width: int, multiple: int
) -> FeaturesSizes:
    return FeaturesSizes(
        height=height,
        width=width,
        canvas_height=multiple * ceil(height / multiple),
        canvas_width=multiple * ceil(width / multiple),
        border=0,
        horizontal=width / image_width,
        vertical=height / image_height,
        level=None,
    )
