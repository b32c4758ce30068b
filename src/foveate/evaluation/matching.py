# SPDX-License-Identifier: Apache-2.0
"""Matching of results with objects, image by image, by COCO's rules.

The rules are those of ``COCOeval.evaluateImg``, including the order of ties:

- Results are matched by descending score, at most the best K of an image (and category).
- A result takes the free object with the highest overlap of at least the threshold, and the last
  of several with equal overlaps.
- Objects that do not count (crowds, and those out of the range of areas) come after those that do.
  A crowd is never used up, and its overlap is the intersection over the result's own area.
- A result that was matched with such an object, or with none while its own area is out of range,
  counts neither as right nor as wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from pycocotools import mask as coco_mask

from foveate.arrays import BoolArray, Float64Array, Int32Array

Region: TypeAlias = Literal["mask", "box"]

# COCO's ten overlaps at which a result may count as right.
THRESHOLDS = np.linspace(0.5, 0.95, 10)

# COCO's ranges of areas in square pixels, both ends inclusive.
AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True, kw_only=True)
class MatchedImage:
    """Results and objects of one image; A = 4 ranges of areas, T = 10 thresholds.

    Args:
        scores: (D,) float64, best first.
        matched: (A, T, D) int32 index of the object that a result was matched with, or -1.
        ignored: (A, T, D) bool, whether the result counts neither as right nor as wrong.
        counted: (A, G) bool, whether the object counts.
        overlaps: (D, G) float64 intersection over union.
    """

    scores: Float64Array
    matched: Int32Array
    ignored: BoolArray
    counted: BoolArray
    overlaps: Float64Array


def match_image(
    objects: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    *,
    region: Region,
    most: int,
) -> MatchedImage:
    """Match the results of one image, in one category or regardless of categories.

    Args:
        objects: COCO annotations: segmentation (RLE), bbox [x, y, w, h], area, iscrowd.
        results: COCO results: score, segmentation (RLE), bbox; by default the box of the mask.
        region: Region that overlaps are measured on.
        most: Number of results that count, the best.
    """
    scores = np.array([result["score"] for result in results], np.float64)
    order = np.argsort(-scores, kind="stable")[:most]
    best = [results[i] for i in order.tolist()]
    crowds = np.array([o["iscrowd"] for o in objects], bool)
    shapes = [_shape(result, region) for result in best]
    overlaps = _overlaps(shapes, [_shape(o, region) for o in objects], crowds)
    object_areas = np.array([o["area"] for o in objects], np.float64)
    counted = _within(object_areas) & ~crowds
    matched = _assign(overlaps, counted, crowds)
    # One by one: pycocotools fails on a list of more than 255 with NumPy 2.
    area = coco_mask.area if region == "mask" else _box_area
    areas = np.array([float(area(shape)) for shape in shapes], np.float64)
    ignored = np.broadcast_to(~_within(areas)[:, None], matched.shape).copy()
    ranges, thresholds, rows = np.nonzero(matched >= 0)
    ignored[ranges, thresholds, rows] = ~counted[ranges, matched[ranges, thresholds, rows]]
    return MatchedImage(
        scores=scores[order], matched=matched, ignored=ignored, counted=counted, overlaps=overlaps
    )


def _assign(overlaps: Float64Array, counted: BoolArray, crowds: BoolArray) -> Int32Array:
    """Assign an object to each result, for all ranges and thresholds: (A, T, D) index, or -1."""
    ranges, depth, count = len(counted), len(THRESHOLDS), len(crowds)
    matched = np.full((ranges, depth, len(overlaps)), -1, np.int32)
    if not overlaps.size:
        return matched
    # From the last object to the first, so that argmax finds the last of equals.
    overlaps, crowds = overlaps[:, ::-1], crowds[::-1]
    first_choice = counted[:, None, ::-1]
    free = np.ones((ranges, depth, count), bool)
    # Only results that reach the lowest threshold are visited. Most proposals do not.
    for row in np.flatnonzero((overlaps >= THRESHOLDS[0]).any(axis=1)).tolist():
        able = free & (overlaps[row] >= THRESHOLDS[:, None])
        preferred = able & first_choice
        able = np.where(preferred.any(axis=2, keepdims=True), preferred, able)
        found, threshold = np.nonzero(able.any(axis=2))
        chosen = np.where(able, overlaps[row], -1.0).argmax(axis=2)[found, threshold]
        matched[found, threshold, row] = count - 1 - chosen
        free[found, threshold, chosen] = crowds[chosen]
    return matched


def _box_area(box: Sequence[float]) -> float:
    return box[2] * box[3]


def _shape(entry: Mapping[str, Any], region: Region) -> Any:
    if region == "mask":
        return entry["segmentation"]
    if "bbox" in entry:
        return list(entry["bbox"])
    return coco_mask.toBbox(entry["segmentation"]).tolist()


def _overlaps(shapes: list[Any], objects: list[Any], crowds: BoolArray) -> Float64Array:
    """Compute (D, G) intersection over union; for a crowd, over the result's own area."""
    if not shapes or not objects:
        return np.zeros((len(shapes), len(objects)))
    return np.asarray(coco_mask.iou(shapes, objects, crowds.tolist()), np.float64)


def _within(areas: Float64Array) -> BoolArray:
    """Return (A, N) bool, whether each of (N,) areas is in each range."""
    return np.array([(areas >= low) & (areas <= high) for low, high in AREAS.values()], bool)
