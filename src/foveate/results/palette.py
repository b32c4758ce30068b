# SPDX-License-Identifier: Apache-2.0
"""Colours that people tell apart."""

from __future__ import annotations

from functools import cache
from math import cos, radians, sin

_GOLDEN_ANGLE = 137.508  # neighbours in the sequence are far apart, whatever its length
_LIGHTNESS = (0.74, 0.62, 0.82)


@cache
def colour(index: int) -> tuple[int, int, int]:
    """Return the ``index``-th colour as RGB, 0 to 255.

    Hues are spread evenly in OKLCH, where equal steps look equal, and lightness takes turns.
    """
    hue = radians(30 + index * _GOLDEN_ANGLE)
    lightness, chroma = _LIGHTNESS[index % len(_LIGHTNESS)], 0.19
    red, green, blue = _oklab_to_linear(lightness, chroma * cos(hue), chroma * sin(hue))
    return _encode(red), _encode(green), _encode(blue)


def is_light(tone: tuple[int, int, int]) -> bool:
    """Return whether black text reads better on this colour than white."""
    red, green, blue = tone
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140


def _oklab_to_linear(lightness: float, a: float, b: float) -> tuple[float, float, float]:
    """Convert by the matrices that Björn Ottosson published with OKLab."""
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _encode(linear: float) -> int:
    """Convert one linear channel to sRGB; what the screen cannot show is clipped."""
    clipped = min(max(linear, 0.0), 1.0)
    if clipped <= 0.0031308:
        return round(255 * 12.92 * clipped)
    encoded: float = 1.055 * clipped ** (1 / 2.4) - 0.055
    return round(255 * encoded)
