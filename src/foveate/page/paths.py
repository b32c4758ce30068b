# SPDX-License-Identifier: Apache-2.0
"""Outlines of masks as paths of SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.arrays import Int64Array

# A simplified outline is at most this far from the edges of the pixels: a share of the ratio of the
# mask's area to the length of its outline, which is small for thin masks, and of the image's longer
# side.
_OF_MASK, _OF_IMAGE = 0.03, 1 / 800


def path_of(outline: Sequence[Int64Array], area: int, longer_side: int) -> str:
    """Return a mask as a path of SVG, to be filled by the even-odd rule.

    The path is at most ``min(0.03 * area / length, longer_side / 800)`` pixels away from the edges
    of the mask's pixels, where ``length`` is that of the outline.

    Args:
        outline: Closed polygons, (V, 2) x, y; see ``Masks.outline``.
        area: Number of pixels of the mask.
        longer_side: Longer side of the image in pixels.
    """
    length = sum(int(np.abs(np.diff(one, axis=0, append=one[:1])).sum()) for one in outline)
    tolerance = min(_OF_MASK * area / max(length, 1), _OF_IMAGE * longer_side)
    return "".join(_subpath(_simplify(polygon, tolerance)) for polygon in outline)


def _simplify(polygon: Int64Array, tolerance: float) -> list[list[int]]:
    points = cv2.approxPolyDP(polygon.astype(np.int32), tolerance, closed=True)
    return [[int(x), int(y)] for x, y in points.reshape(-1, 2)]


def _subpath(points: Sequence[Sequence[int]]) -> str:
    """Return a closed polygon as commands of SVG, relative to each other since that is shorter."""
    if len(points) < 3:
        return ""  # a hole or a speck that is thinner than the tolerance
    (x, y), *rest = points
    steps = [f"M{x} {y}"]
    for next_x, next_y in rest:
        steps.append(_step(next_x - x, next_y - y))
        x, y = next_x, next_y
    return "".join([*steps, "z"])


def _step(x: int, y: int) -> str:
    if y == 0:
        return f"h{x}"
    if x == 0:
        return f"v{y}"
    return f"l{x} {y}"
