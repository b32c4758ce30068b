# SPDX-License-Identifier: Apache-2.0
"""Figures of results by name, from matches that are accumulated image by image."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate.arrays import Float64Array, Int64Array
from foveate.errors import OptionError
from foveate.evaluation.annotations import GroundTruth, Image
from foveate.evaluation.bootstrap import (
    DETECTIONS,
    Bootstrap,
    Estimate,
    Group,
    area_rank_weights,
    average_precisions,
    average_recall,
    estimate,
    mean,
    mean_over_groups,
)
from foveate.evaluation.matching import AREAS, THRESHOLDS, MatchedImage, Region, match_image

# Number of best results of an image that count for the best overlap with an object.
OVERLAP_RESULTS = 100


# Scores of an image in a category, best first, and its group for each range of areas.
_Part: TypeAlias = tuple[Float64Array, list[Group]]


@dataclass(kw_only=True)
class Accumulator:
    """Accumulator of results, image by image, that keeps only the values that figures need.

    Args:
        truth: Ground truth.
        region: Region that overlaps are measured on.
        by_class: Whether results are matched within a category only. If not, only recall is
            measured.
        most: Number of results per image (and category) that count, the best.
    """

    truth: GroundTruth
    region: Region
    by_class: bool
    most: int
    _parts: dict[int, list[_Part]] = field(default_factory=lambda: defaultdict(list), init=False)
    _best: list[tuple[NDArray[Any], ...]] = field(default_factory=list, init=False)

    def add(
        self, image: Image, objects: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
    ) -> None:
        """Add one image. The images come in the order of their ids, each once.

        Args:
            image: Image of the ground truth.
            objects: Objects of the ground truth in it.
            results: COCO results in it, in any order.
        """
        # COCO orders the entries of an image by category, which decides between equal scores.
        objects, results = sorted(objects, key=_category), sorted(results, key=_category)
        if not self.by_class:
            matched = self._match(0, objects, results)
            self._note_overlaps(image, objects, matched.overlaps[:OVERLAP_RESULTS])
            return
        there, found = _by(_category, objects), _by(_category, results)
        for category in (there.keys() | found.keys()) & set(self.truth.category_ids.values()):
            self._match(category, there.get(category, []), found.get(category, []))

    def groups(self, area: str) -> tuple[Group, ...]:
        """Return the groups of a range of areas, one per category ordered as ``class_names``."""
        index = list(AREAS).index(area)
        categories = sorted(self.truth.category_ids.values()) if self.by_class else [0]
        return tuple(_group(self._parts[i], index) for i in categories)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories by their ids, or ("",) if classes are ignored."""
        names = {identifier: name for name, identifier in self.truth.category_ids.items()}
        return tuple(names[i] for i in sorted(names)) if self.by_class else ("",)

    def overlaps(self) -> tuple[Float64Array, Int64Array, Float64Array]:
        """Return best overlaps with the best 100 results of an image, if classes are ignored.

        Returns:
            Of G objects, without crowds: (G,) intersection over union in 0..1, (G,) family, and
            (G,) area as a share of the image.
        """
        nothing = (np.zeros(0), np.zeros(0, np.int64), np.zeros(0))
        best, families, shares = map(np.concatenate, zip(nothing, *self._best, strict=True))
        return best, families, shares

    def _match(
        self, category: int, objects: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
    ) -> MatchedImage:
        found = match_image(objects, results, region=self.region, most=self.most)
        families = self._families_of(objects)
        # An index of -1, for none, finds the -1 at the end.
        matched = np.append(families, -1).astype(np.int32)[found.matched]
        kept = np.arange(len(found.scores), dtype=np.int32)
        if not self.by_class:
            # Only recall is measured, which results without a match do not change.
            kept = kept[(found.matched >= 0).any(axis=(0, 1))]
        groups = [
            Group(
                objects=families[counted], ranks=kept, matched=own[:, kept], ignored=skip[:, kept]
            )
            for counted, own, skip in zip(found.counted, matched, found.ignored, strict=True)
        ]
        self._parts[category].append((found.scores[kept], groups))
        return found

    def _note_overlaps(
        self, image: Image, objects: Sequence[dict[str, Any]], overlaps: Float64Array
    ) -> None:
        counts = np.array([not o["iscrowd"] for o in objects], bool)
        areas = np.array([o["area"] for o in objects], np.float64)[counts]
        best, families = overlaps.max(axis=0, initial=0.0), self._families_of(objects)
        share = areas / (image.height * image.width)
        self._best.append((best[counts], families[counts], share))

    def _families_of(self, objects: Sequence[dict[str, Any]]) -> Int64Array:
        return self.truth.family_of(np.array([o["id"] for o in objects], np.int64))


def _category(entry: dict[str, Any]) -> int:
    return int(entry.get("category_id", 0))


def _by(
    key: Callable[[dict[str, Any]], int], entries: Sequence[dict[str, Any]]
) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        found[key(entry)].append(entry)
    return dict(found)


def _group(parts: Sequence[_Part], area: int) -> Group:
    """Join the images of one category and range of areas, as ``COCOeval.accumulate`` does."""
    depth, groups = len(THRESHOLDS), [groups[area] for _, groups in parts]
    scores = np.concatenate([np.zeros(0), *(scores for scores, _ in parts)])
    order = np.argsort(-scores, kind="stable")
    matched = [np.zeros((depth, 0), np.int32), *(group.matched for group in groups)]
    ignored = [np.zeros((depth, 0), bool), *(group.ignored for group in groups)]
    ranks = np.concatenate([np.zeros(0, np.int32), *(group.ranks for group in groups)])
    return Group(
        objects=np.concatenate([np.zeros(0, np.int64), *(group.objects for group in groups)]),
        ranks=ranks[order],
        matched=np.concatenate(matched, axis=1)[:, order],
        ignored=np.concatenate(ignored, axis=1)[:, order],
    )


Task: TypeAlias = Literal["proposals", "detections"]

_SIZES = ("small", "medium", "large")
_COUNTS = (10, 100, 1000)
_LARGE_SHARE = 0.01  # of the image area: objects that are noticed at first sight


class Measurement:
    """Measurement of results, image by image, that keeps only the values that figures need.

    Figures have names such as "mask AR@100", "box AP50" or "mask AP, bird".

    Args:
        truth: Ground truth.
        task: "proposals" ignores classes: AR@10, AR@100 and AR@1000 up to ``most``, and the area
            under AR@1 ... AR@``most`` (see ``area_rank_weights``), each of all objects and by size,
            for masks and boxes; and the mean over objects of the best overlap of any of the 100
            best proposals. "detections": AP over all classes, AP50, AP75, AP by size and by class,
            and AR@100.
        most: Number of proposals per image that count, the best. For detections it is COCO's 100.
        regions: Regions that overlaps are measured on; masks only if every object of ``truth`` has
            one.

    Raises:
        OptionError: ``most`` is below 1.
    """

    def __init__(
        self,
        truth: GroundTruth,
        *,
        task: Task,
        most: int = 100,
        regions: Sequence[Region] = ("mask", "box"),
    ) -> None:
        if most < 1:
            raise OptionError(f"most must be at least 1, found {most}")
        self._truth, self._task = truth, task
        self._objects = _by(itemgetter("image_id"), truth.objects)
        by_class = task == "detections"
        most = DETECTIONS if by_class else most
        # Without the objects that have no mask, mask figures would be those of another data set.
        self._accumulators = [
            Accumulator(truth=truth, region=region, by_class=by_class, most=most)
            for region in regions
            if region == "box" or not truth.unmasked
        ]

    def add(self, image: Image, results: Sequence[dict[str, Any]]) -> None:
        """Add the results of one image. Images come in the order of the ground truth, each once.

        Args:
            image: Image of the ground truth.
            results: COCO results: "score", "segmentation" (RLE), for detections "category_id", and
                "bbox" [x, y, w, h] if the box is not that of the mask. Masks must be valid, since
                pycocotools does not check them.
        """
        for accumulator in self._accumulators:
            accumulator.add(image, self._objects.get(image.identifier, []), results)

    def figures(self, resampling: Bootstrap | None = None) -> dict[str, Estimate]:
        """Return all figures of the added images, with intervals of 1000 replicates by default."""
        # One set of draws for all figures, so that their replicates belong together.
        weights = (resampling or Bootstrap()).weights(self._truth.families)
        figures: dict[str, Estimate] = {}
        measure = _proposal_figures if self._task == "proposals" else _detection_figures
        for accumulator in self._accumulators:
            figures |= measure(accumulator, weights)
        return figures


def _proposal_figures(accumulator: Accumulator, weights: Float64Array) -> dict[str, Estimate]:
    counts = [count for count in _COUNTS if count <= accumulator.most] or [accumulator.most]
    by_name = {f"AR@{count}": np.ones(count) for count in counts}
    by_name["AUC"] = area_rank_weights(accumulator.most)
    figures = {}
    for size in ("all", *_SIZES):
        groups = accumulator.groups(size)
        for name, rank_weights in by_name.items():
            full = f"{accumulator.region} {name}" + (f", {size}" if size != "all" else "")
            figures[full] = estimate(average_recall(weights, groups, rank_weights))
    if accumulator.region == "mask":
        figures |= _overlap_figures(accumulator, weights)
    return figures


def _overlap_figures(accumulator: Accumulator, weights: Float64Array) -> dict[str, Estimate]:
    best, families, shares = accumulator.overlaps()
    large = shares >= _LARGE_SHARE
    of_large = estimate(mean(weights, best[large], families[large]))
    return {
        "mean best overlap": estimate(mean(weights, best, families)),
        "mean best overlap, at least 1 % of the image": of_large,
    }


def _detection_figures(accumulator: Accumulator, weights: Float64Array) -> dict[str, Estimate]:
    region, everything = accumulator.region, accumulator.groups("all")
    by_class = [average_precisions(weights, group) for group in everything]
    averages = [precisions.mean(axis=1) for precisions in by_class]
    figures = {f"{region} AP": estimate(mean_over_groups(averages, len(weights)))}
    for name, threshold in (("AP50", 0), ("AP75", 5)):
        at = [precisions[:, threshold] for precisions in by_class]
        figures[f"{region} {name}"] = estimate(mean_over_groups(at, len(weights)))
    for size in _SIZES:
        groups = accumulator.groups(size)
        sized = [average_precisions(weights, group).mean(axis=1) for group in groups]
        figures[f"{region} AP, {size}"] = estimate(mean_over_groups(sized, len(weights)))
    recall = average_recall(weights, everything, np.ones(DETECTIONS))
    figures[f"{region} AR@100"] = estimate(recall)
    for name, average in zip(accumulator.class_names, averages, strict=True):
        figures[f"{region} AP, class {name}"] = estimate(average)
    return figures
