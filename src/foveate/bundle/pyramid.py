# SPDX-License-Identifier: Apache-2.0
"""The levels of the pyramid: how many there are, and their scales."""

from dataclasses import dataclass

from foveate.bundle.schema import require

# Half an octave apart, so that an object of any size fits the window of one level well.
DEFAULT_SCALES = (0.1768, 0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0)

_MOST_SCALE = 4.0  # limit for hostile manifests


@dataclass(frozen=True, kw_only=True)
class PyramidSpec:
    """Scales of the levels, relative to the working image, whose sides are at most ``max_side``."""

    scales: tuple[float, ...]
    max_side: int

    def __post_init__(self) -> None:
        check_scales(self.scales)
        require(self.max_side >= 16, "max_side must be at least 16")


def check_scales(scales: tuple[float, ...]) -> None:
    """Check the scales of the levels of a pyramid."""
    require(len(scales) > 0, "scales must not be empty")
    require(len(scales) <= 64, "scales must be at most 64")
    in_range = all(0 < scale <= _MOST_SCALE for scale in scales)
    require(in_range, f"scales must lie in (0, {_MOST_SCALE:g}]")
