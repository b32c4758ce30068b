# SPDX-License-Identifier: Apache-2.0
"""Masks as polygons with few corners, for annotation tools.

The corners lie on corners of pixels, in continuous coordinates, as in COCO. A hole is joined to its polygon by a
slit without width, since neither COCO nor labelme has polygons with holes. A slit may begin between two corners of
pixels, at a fifth of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageDraw
from pycocotools import mask as coco_mask

from foveate.arrays import BoolArray, Float64Array, Int64Array
from foveate.results.masks import Masks
from foveate.system.native_code import native_code

LEAST_IOU = 0.98
"""Smallest intersection over union of a mask and its polygons, however large the tolerance is."""

# labelme draws a corner in the pixel to the lower right of it, and COCO rounds to a fifth of a pixel.
# Corners this much inside of the mask are drawn right by both.
_INSET = 0.01


@native_code()
def mask_polygons(masks: Masks, index: int, tolerance: float) -> list[Float64Array]:
    """Return a mask as polygons, the largest first; one per connected part.

    Args:
        masks: Masks of an image.
        index: Index of the mask.
        tolerance: Largest distance in pixels between the outline of the mask and its polygons.
            Parts and holes smaller than a square of four times this side are left out. It is
            lowered until the polygons, drawn as by COCO and as by labelme, overlap with the mask
            by at least ``LEAST_IOU``.

    Returns:
        (V, 2) float64 each: x, y in pixels of the image, with two decimals. COCO draws the same if
        they are rounded to one.
    """
    mask, top, left = masks.crop(index)
    corner = np.array([left, top])
    rings = [_Ring.inside(ring - corner, mask) for ring in masks.outline(index)]
    while True:
        polygons = _joined([ring.simplified(tolerance) for ring in _large(rings, 4 * tolerance)])
        if not polygons or not tolerance or _iou(polygons, mask) >= LEAST_IOU:
            break
        tolerance = 0.75 * tolerance if tolerance > 0.5 else 0.0
    return [np.round(polygon + corner, 2) for polygon in polygons]


@dataclass(frozen=True, eq=False)
class _Ring:
    """A closed outline, clockwise.

    Args:
        points: (V, 2) float64 x, y.
        hole: Whether it surrounds background.
    """

    points: Float64Array
    hole: bool

    @property
    def area(self) -> float:
        """The enclosed area in square pixels."""
        return float(cv2.contourArea(self.points.astype(np.float32)))

    @classmethod
    def inside(cls, corners: Int64Array, mask: BoolArray) -> _Ring:
        """Return the outline with each corner moved into the pixel of the mask that it belongs to."""
        x, y = corners[0]  # the uppermost of the leftmost corners
        hole = not mask[y, x]
        after = np.sign(np.roll(corners, -1, 0) - corners)
        before = np.roll(after, 1, 0)
        along = after + before
        inward = np.stack([-along[:, 1], along[:, 0]], 1) * (-1 if hole else 1)
        return cls(corners - _INSET * (inward < 0), hole)

    def simplified(self, tolerance: float) -> _Ring:
        """Return the outline with some of its points, none of the others farther away."""
        contour = self.points.astype(np.float32)[:, None]
        few = cv2.approxPolyDP(contour, tolerance, closed=True)[:, 0]
        return _Ring(few.astype(np.float64), self.hole) if len(few) > 2 and tolerance else self


def _large(rings: list[_Ring], side: float) -> list[_Ring]:
    """Return the largest ring, and the others that are not smaller than a square, largest first."""
    ordered = sorted(rings, key=lambda ring: -ring.area)
    return ordered[:1] + [ring for ring in ordered[1:] if ring.area >= side**2]


def _joined(rings: list[_Ring]) -> list[Float64Array]:
    """Return the outer rings as polygons, with each hole joined to the one on its left."""
    polygons = [ring.points for ring in rings if not ring.hole]
    # From left to right, so that whatever is on the left of a hole is part of a polygon already.
    holes = sorted((r.points for r in rings if r.hole), key=lambda points: points[:, 0].min())
    for outline in holes:
        hole = np.roll(outline, -int(outline[:, 0].argmin()), 0)  # starts on the left
        slits = [(*_left_of(hole[0], polygon), i) for i, polygon in enumerate(polygons)]
        x, edge, i = max(slits)
        if edge >= 0:
            slit = np.array([[_to_fifths(x), hole[0, 1]]])
            around = np.concatenate([slit, hole[:1], hole[::-1], slit])
            polygons[i] = np.insert(polygons[i], edge + 1, around, 0)
    return [np.round(polygon, 2) for polygon in polygons]


def _left_of(point: Float64Array, polygon: Float64Array) -> tuple[float, int]:
    """Return where a line to the left meets a polygon first, as x and edge; edge -1 if it does not."""
    (x, y), (x1, y1) = polygon.T, np.roll(polygon, -1, 0).T
    edges = np.flatnonzero((y <= point[1]) != (y1 <= point[1]))
    share = (point[1] - y[edges]) / (y1[edges] - y[edges])
    places = x[edges] + share * (x1[edges] - x[edges])
    places[places > point[0]] = -np.inf
    if not len(places) or places.max() == -np.inf:
        return -np.inf, -1
    return float(places.max()), int(edges[places.argmax()])


def _to_fifths(x: float) -> float:
    """Round to a fifth, as COCO does when it draws, unless x is a corner of a pixel with its inset."""
    return x if abs(x - round(x)) < 2 * _INSET else round(5 * x) / 5


def _iou(polygons: list[Float64Array], mask: BoolArray) -> float:
    """Return the smaller intersection over union of a mask with its polygons, drawn in two ways."""
    height, width = mask.shape
    drawn = [coco_mask.merge(coco_mask.frPyObjects([p.ravel() for p in polygons], height, width))]
    canvas = Image.new("L", (width, height))
    for polygon in polygons:
        one = Image.new("L", (width, height))
        ImageDraw.Draw(one).polygon([tuple(point) for point in polygon], fill=1, outline=1)
        canvas = ImageChops.lighter(canvas, one)
    drawn += [coco_mask.encode(np.asfortranarray(np.asarray(canvas)))]
    truth = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    overlaps: Float64Array = coco_mask.iou(drawn, [truth], [0])
    return float(overlaps.min())
