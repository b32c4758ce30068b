# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals by resampling the families of objects, without matching anything again.

One replicate draws as many families as there are, with replacement; family f is drawn w_f times. An
object counts w_f times, and so does a result that was matched with it. Results without a match
belong to no family and count once: the images, and the wrong results in them, stay. Matching is
that of the whole set, so a replicate costs a sum and not a second evaluation; with every w_f = 1
the figures are those of pycocotools. The interval is from the 2.5th to the 97.5th percentile of the
replicates. A replicate without any object for a figure omits that figure, as COCO omits a category
without objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foveate.arrays import BoolArray, Float64Array, Int32Array, Int64Array
from foveate.errors import OptionError

_RECALLS = np.linspace(0.0, 1.0, 101)
_BEYOND = np.append(_RECALLS[1:], np.inf)
DETECTIONS = 100  # of an image and class, COCO's number
_CACHED = 100_000  # elements of an array, of which several fit in a processor's cache


@dataclass(frozen=True, kw_only=True)
class Group:
    """The results and objects of one category and one range of areas; T = 10 thresholds.

    Args:
        objects: (G,) int64 family of each object that counts (no crowd, area in range).
        ranks: (D,) int32 place of a result by score in its image and category, from 0. Results are
            sorted by score, best first, over all images; equal ones stay in the order of images.
        matched: (T, D) int32 family of the object that a result was matched with, or -1.
        ignored: (T, D) bool, whether the result counts neither as right nor as wrong.
    """

    objects: Int64Array
    ranks: Int32Array
    matched: Int32Array
    ignored: BoolArray


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured value with its 95 % interval; all NaN if there is nothing to measure.

    Args:
        value: Figure of the whole set.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """The settings of confidence intervals.

    Args:
        replicates: Number of resampled sets.
        seed: Seed of the draws: the same seed gives the same intervals.
    """

    replicates: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.replicates < 1:
            raise OptionError(f"replicates must be at least 1, found {self.replicates}")

    def weights(self, families: int) -> Float64Array:
        """Draw (1 + replicates, families) float64 weights; the first row, all 1, is the set."""
        if not families:
            return np.ones((1, 0))
        generator = np.random.default_rng(self.seed)
        chances = np.full(families, 1 / families)
        weights = np.empty((1 + self.replicates, families))
        weights[0] = 1.0
        for row in weights[1:]:  # one by one, since counts of all at once would double the memory
            row[:] = generator.multinomial(families, chances)
        return weights


def estimate(values: Float64Array) -> Estimate:
    """Return the estimate of (1 + replicates,) values: its value, then its spread."""
    spread = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(spread, [2.5, 97.5]) if spread.size else (np.nan, np.nan)
    return Estimate(value=float(values[0]), low=float(low), high=float(high))


def mean(weights: Float64Array, values: Float64Array, families: Int64Array) -> Float64Array:
    """Compute the weighted mean of one value per object: (R, F), (G,), (G,) to (R,)."""
    own = weights[:, families]
    return _ratio(own @ values, own.sum(axis=1))


def average_recall(
    weights: Float64Array, groups: Sequence[Group], rank_weights: Float64Array
) -> Float64Array:
    """Compute COCO's average recall over thresholds and groups: (R,).

    Args:
        weights: (R, F) weights of the families.
        groups: One group per category.
        rank_weights: (N,) value of a right result of each rank; further ranks are ignored. N ones
            give AR@N; see ``area_rank_weights`` for another choice.
    """
    recalls = []
    for group in groups:
        right = (group.matched >= 0) & ~group.ignored & (group.ranks < len(rank_weights))
        of_ranks = rank_weights[np.minimum(group.ranks, len(rank_weights) - 1)]
        values = np.broadcast_to(of_ranks, right.shape)
        found = np.bincount(group.matched[right], values[right], minlength=weights.shape[1])
        total = weights[:, group.objects].sum(axis=1)
        recalls.append(_ratio(weights @ found / len(group.matched), total))
    return mean_over_groups(recalls, len(weights))


def area_rank_weights(most: int) -> Float64Array:
    """Return (most,) weights that make average recall the area under its curve, "AUC".

    The curve is AR@n for n = 1 ... ``most`` on a logarithmic axis of n, joined by straight lines,
    and its area is divided by the length of the axis, so that 1 is perfect. DeepMask (NIPS 2015,
    section 5) calls it the AR averaged over all proposal counts, and its published figures fit a
    logarithmic axis from 1 to 1000.
    """
    if most == 1:
        return np.ones(1)
    logarithms = np.log(np.arange(1, most + 1))
    # A right result of rank r raises AR@n for all n > r.
    # Half of the step from n = r to n = r + 1 lies under the straight line.
    rise = (logarithms + np.concatenate([[0.0], logarithms[:-1]])) / 2
    area: Float64Array = 1 - rise / logarithms[-1]
    return area


def average_precisions(weights: Float64Array, group: Group) -> Float64Array:
    """Compute COCO's average precision of a group at each threshold: (R, T)."""
    # A few replicates at a time, so that intermediate results stay in the processor's cache.
    rows = max(1, _CACHED // max(1, group.matched.shape[1]))
    parts = []
    for first in range(0, len(weights), rows):
        some = weights[first : first + rows]
        total = some[:, group.objects].sum(axis=1)
        depth = range(len(group.matched))
        parts.append(np.stack([_precision(some, group, t, total) for t in depth], axis=1))
    return np.concatenate(parts)


def _precision(
    weights: Float64Array, group: Group, threshold: int, total: Float64Array
) -> Float64Array:
    """Compute the area under the interpolated precision-recall curve at one threshold: (R,)."""
    # Only the points of right results matter: between two of them precision falls, and
    # interpolation takes the best precision at this recall or a higher one. There, the number of
    # wrong results so far is the same in every replicate.
    kept = ~group.ignored[threshold] & (group.ranks < DETECTIONS)
    matched = group.matched[threshold][kept]
    right = matched >= 0
    if not right.any():
        return np.where(total > 0, 0.0, np.nan)
    wrong = np.cumsum(~right)[right]
    found = np.cumsum(weights[:, matched[right]], axis=1)
    precision = found / (found + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The number of the 101 recalls that each right result is the first to reach.
    reached = _recalls_up_to(found / np.maximum(total, 1)[:, None])
    first = np.diff(reached, axis=1, prepend=0)
    area: Float64Array = (envelope * first).sum(axis=1) / len(_RECALLS)
    return np.where(total > 0, area, np.nan)


def _recalls_up_to(recall: Float64Array) -> Int64Array:
    """Count the 101 recalls that are at most each value in [0, 1]: a guess, then a correction."""
    guess = (recall * 100).astype(np.int64)
    counts: Int64Array = guess + 1
    counts -= _RECALLS[guess] > recall
    counts += _BEYOND[guess] <= recall
    return counts


def _ratio(part: Float64Array, whole: Float64Array) -> Float64Array:
    """Divide, with NaN where there is nothing to divide by."""
    result = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def mean_over_groups(values: Sequence[Float64Array], rows: int) -> Float64Array:
    """Compute the mean of the groups that have objects in a replicate: (R,) each to (R,)."""
    table = np.array(values).reshape(-1, rows)
    present = ~np.isnan(table)
    return _ratio(np.where(present, table, 0).sum(axis=0), present.sum(axis=0).astype(np.float64))
