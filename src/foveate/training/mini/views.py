# SPDX-License-Identifier: Apache-2.0
"""Views: squares of an image at one scale, with labels for the windows in them.

A view shows a level of the pyramid at a random scale and grid phase. Its inner windows have 64 px
of real context on every side, so that the features are those of inference on whole images.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.arrays import Float64Array, UInt8Array
from foveate.datasets import Instance
from foveate.models.deepmask import CANONICAL_SIDE, STRIDE, WINDOW

CONTEXT = 64  # pixels around the inner windows whose features the borders of a view may distort
GRID = 11  # inner windows of a view on each axis
SIDE = WINDOW + (GRID - 1) * STRIDE + 2 * CONTEXT  # side of a view in pixels
FILL = 127  # value outside the image; it is normalized to 0
UNLABELED = -1
_SCALES = (0.15, 3.0)  # smallest and largest scale of a pyramid level


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """The rules by which windows are positive, negative, or neither.

    Distances are between the centers of window and object, in pixels of the level, the larger of
    the two axes; scales are abs(log2) of the object's larger side over the canonical side.

    Args:
        score_distance: Largest distance of a positive.
        score_octaves: Largest difference of scale of a positive.
        mask_distance: Largest distance at which a window learns the mask of an object.
        mask_octaves: Largest difference of scale for the same.
        negative_distance: Distance from which an object does not prevent a negative.
        negative_octaves: Difference of scale from which it does not.
        crowd_share: Share of the square of canonical side in the middle of a window from which a
            crowd prevents a negative there: one of its objects could fill that square.
    """

    score_distance: float = 12.0
    score_octaves: float = 0.4
    mask_distance: float = 18.0
    mask_octaves: float = 0.6
    negative_distance: float = 28.0
    negative_octaves: float = 0.8
    crowd_share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class View:
    """One view and its labels.

    Args:
        pixels: (SIDE, SIDE, 3) uint8 RGB.
        scores: (GRID, GRID) int8: 1 positive, 0 negative, -1 neither.
        owners: (GRID, GRID) int16 index of the instance whose mask the window should give, or -1.
        masks: (SIDE, SIDE) uint8 masks by index of the instance, 255 on the object.
    """

    pixels: UInt8Array
    scores: NDArray[np.int8]
    owners: NDArray[np.int16]
    masks: dict[int, UInt8Array]


def sample_view(
    image: UInt8Array,
    instances: list[Instance],
    crowds: UInt8Array,
    rng: np.random.Generator,
    rules: LabelRules,
) -> View:
    """Draw a view of an image around a random one of its instances.

    Six views of ten show their instance near the canonical size; the others are up to two octaves
    off, so that parts of objects and groups of small ones appear as negatives.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: Objects of the image, at least one.
        crowds: (H, W) uint8, 1 where objects are annotated as a crowd.
        rng: The only source of randomness.
        rules: Rules of the labels.
    """
    chosen = instances[int(rng.integers(len(instances)))]
    octaves = rng.uniform(-0.45, 0.45) if rng.random() < 0.6 else rng.uniform(-2.0, 2.0)
    scale = float(np.clip(CANONICAL_SIDE / _larger_side(chosen) * 2.0**octaves, *_SCALES))
    center = (chosen.box[:2] + chosen.box[2:]) / 2 * scale
    spread = GRID * STRIDE / 2 * 0.9
    corner = np.round(center - SIDE / 2 + rng.uniform(-spread, spread, 2)).astype(int)
    mirrored = bool(rng.random() < 0.5)
    origin = (int(corner[0]), int(corner[1]))
    pixels = _level_crop(image, scale, origin, FILL)
    sides = np.array([_larger_side(instance) * scale for instance in instances])
    centers = np.array([(i.box[:2] + i.box[2:]) / 2 * scale for i in instances]) - origin
    if mirrored:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        centers[:, 0] = SIDE - centers[:, 0]
    scores, owners = label_windows(centers, sides, rules)
    if crowds.any():
        crowd = _level_crop(crowds * np.uint8(255), scale, origin, 0)
        shares = crowd_shares(crowd[:, ::-1] if mirrored else crowd)
        scores[(scores == 0) & (shares >= rules.crowd_share)] = UNLABELED
    masks = {}
    for owner in np.unique(owners[owners >= 0]):
        mask = _level_crop(instances[int(owner)].mask * np.uint8(255), scale, origin, 0)
        masks[int(owner)] = mask[:, ::-1] if mirrored else mask
    return View(pixels=pixels, scores=scores, owners=owners, masks=masks)


def shown_sides(rules: LabelRules) -> tuple[float, float]:
    """Return the smallest and largest larger side, in pixels, of an object that a view can show."""
    low, high = _SCALES
    tolerance = 2.0**rules.mask_octaves
    return CANONICAL_SIDE / tolerance / high, CANONICAL_SIDE * tolerance / low


def label_windows(
    centers: Float64Array, sides: Float64Array, rules: LabelRules
) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
    """Label the inner windows of a view: ``scores`` and ``owners`` as in ``View``.

    ``centers`` are (N, 2) x, y of the objects and ``sides`` their (N,) larger sides, in pixels.
    """
    axis = CONTEXT + STRIDE * np.arange(GRID) + WINDOW / 2
    dx = np.abs(axis[None, :] - centers[:, 0, None])
    dy = np.abs(axis[None, :] - centers[:, 1, None])
    distance = np.maximum(dy[:, :, None], dx[:, None, :])
    octaves = np.abs(np.log2(sides / CANONICAL_SIDE))[:, None, None]

    positive = (distance <= rules.score_distance) & (octaves <= rules.score_octaves)
    near = (distance < rules.negative_distance) & (octaves < rules.negative_octaves)
    scores = np.where(positive.any(0), 1, np.where(near.any(0), UNLABELED, 0)).astype(np.int8)

    owned = (distance <= rules.mask_distance) & (octaves <= rules.mask_octaves)
    cost = np.where(owned, distance / rules.mask_distance + octaves / rules.mask_octaves, np.inf)
    owners = np.where(owned.any(0), cost.argmin(0), -1).astype(np.int16)
    return scores, owners


def crowd_shares(crowd: UInt8Array) -> Float64Array:
    """Return how much of the middle of each inner window of a view lies in a crowd: (GRID, GRID).

    Args:
        crowd: (SIDE, SIDE) uint8, 255 in a crowd.
    """
    sums = cv2.integral(crowd)
    first = CONTEXT + (WINDOW - CANONICAL_SIDE) // 2 + STRIDE * np.arange(GRID)
    last = first + CANONICAL_SIDE
    inside = (
        sums[np.ix_(last, last)]
        - sums[np.ix_(first, last)]
        - sums[np.ix_(last, first)]
        + sums[np.ix_(first, first)]
    )
    return np.asarray(inside / (255 * CANONICAL_SIDE**2), np.float64)


def _larger_side(instance: Instance) -> float:
    x1, y1, x2, y2 = instance.box.tolist()
    return float(max(x2 - x1, y2 - y1, 1.0))


def _level_crop(image: UInt8Array, scale: float, origin: tuple[int, int], fill: int) -> UInt8Array:
    """Cut the view out of a level, reading no more of the image than it shows."""
    x0, y0 = origin
    height, width = image.shape[:2]
    # Two more pixels on each side, so that interpolation at the border has its neighbors.
    left, top = (max(0, int(np.floor(v / scale)) - 2) for v in (x0, y0))
    right = min(width, int(np.ceil((x0 + SIDE) / scale)) + 2)
    bottom = min(height, int(np.ceil((y0 + SIDE) / scale)) + 2)
    view = np.full((SIDE, SIDE, *image.shape[2:]), fill, np.uint8)
    if left >= right or top >= bottom:
        return view
    part = image[top:bottom, left:right]
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(part, size, interpolation=method)
    x, y = round(left * scale) - x0, round(top * scale) - y0
    xs, ys = slice(max(x, 0), min(x + size[0], SIDE)), slice(max(y, 0), min(y + size[1], SIDE))
    if xs.start < xs.stop and ys.start < ys.stop:
        view[ys, xs] = resized[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]
    return view
