# SPDX-License-Identifier: Apache-2.0
"""All sizes that follow from the size of an image."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from foveate.bundle.manifest import FeaturesSpec, WindowSpec
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
    """Sizes of the image for the features stage, which lies at the top left of its canvas.

    ``horizontal`` and ``vertical`` are canvas pixels per pixel of the image.
    """

    height: int
    width: int
    canvas_height: int
    canvas_width: int
    horizontal: float
    vertical: float


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the image, of the working image, of the levels and of the features canvas."""

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
    def of(
        cls,
        height: int,
        width: int,
        pyramid: PyramidSpec,
        windows: WindowSpec,
        features: FeaturesSpec | None,
    ) -> Sizes:
        """Return the sizes for an image of ``height`` x ``width`` pixels."""
        shrink = min(1.0, pyramid.max_side / max(height, width))
        working_height, working_width = _scaled(height, shrink), _scaled(width, shrink)
        levels = tuple(
            _level(height, width, _scaled(working_height, s), _scaled(working_width, s), windows)
            for s in pyramid.scales
        )
        seen = None
        if features is not None:
            seen = _features(height, width, working_height, working_width, features)
        return cls(
            height=height,
            width=width,
            working_height=working_height,
            working_width=working_width,
            levels=levels,
            features=seen,
        )


def _scaled(side: int, scale: float) -> int:
    return max(1, floor(scale * side + 0.5))  # halves round up, unlike round()


def _level(
    image_height: int, image_width: int, height: int, width: int, windows: WindowSpec
) -> LevelSizes:
    stride, border = windows.stride, 2 * windows.padding
    canvas_height = stride * ceil((height + border) / stride)
    canvas_width = stride * ceil((width + border) / stride)
    inside = windows.size // stride - 1
    return LevelSizes(
        height=height,
        width=width,
        canvas_height=canvas_height,
        canvas_width=canvas_width,
        rows=canvas_height // stride - inside,
        columns=canvas_width // stride - inside,
        horizontal=image_width / width,
        vertical=image_height / height,
    )


def _features(
    image_height: int, image_width: int, height: int, width: int, spec: FeaturesSpec
) -> FeaturesSizes:
    short, long = sorted((height, width))
    # As in Fast R-CNN: the short side is fixed unless the long side becomes too long.
    scale = min(spec.short_side / short, spec.long_side / long)
    seen_height, seen_width = _scaled(height, scale), _scaled(width, scale)
    return FeaturesSizes(
        height=seen_height,
        width=seen_width,
        canvas_height=spec.multiple * ceil(seen_height / spec.multiple),
        canvas_width=spec.multiple * ceil(seen_width / spec.multiple),
        horizontal=seen_width / image_width,
        vertical=seen_height / image_height,
    )
