# SPDX-License-Identifier: Apache-2.0
"""Figures of results, by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate.datasets.segmentations import encode_segmentation
from foveate.errors import DataError, OptionError
from foveate.evaluation.accumulator import Accumulator
from foveate.evaluation.annotations import GroundTruth, Image
from foveate.evaluation.bootstrap import (
    Bootstrap,
    Estimate,
    area_rank_weights,
    average_precisions,
    average_recall,
    estimate,
    mean,
    mean_over_groups,
)
from foveate.evaluation.matching import Region

Task: TypeAlias = Literal["proposals", "detections"]

_SIZES = ("small", "medium", "large")
_COUNTS = (10, 100, 1000)
_LARGE_SHARE = 0.01  # of the image: what a person would call an object at first sight
_DETECTIONS = 100  # COCO's number of detections of an image and class


class Measurement:
    """Takes results image by image, and keeps only what the figures need.

    Args:
        truth: Ground truth.
        task: See `measure`.
        most: See `measure`.
        regions: Regions that overlaps are measured on; masks only if every object of `truth` has
            one.

    Raises:
        OptionError: `most` is below 1.
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
        self._truth, self._task, self._most = truth, task, most
        self._objects: Mapping[int, list[dict[str, Any]]] = _by_image(truth.objects)
        self._accumulators = [
            Accumulator(
                truth=truth,
                region=region,
                by_class=task == "detections",
                most=_DETECTIONS if task == "detections" else most,
            )
            for region in regions
            if region == "box" or not truth.unmasked
        ]

    def add(self, image: Image, results: Sequence[dict[str, Any]]) -> None:
        """Add the results of one image. Images come in the order of the ground truth, each once."""
        for accumulator in self._accumulators:
            accumulator.add(image, self._objects.get(image.identifier, []), results)

    def figures(self, resampling: Bootstrap | None = None) -> dict[str, Estimate]:
        """Return all figures of the added images."""
        weights = (resampling or Bootstrap()).weights(self._truth.families)
        figures: dict[str, Estimate] = {}
        for accumulator in self._accumulators:
            if self._task == "proposals":
                figures |= _proposal_figures(accumulator, weights)
            else:
                figures |= _detection_figures(accumulator, weights)
        return figures


def measure(
    truth: GroundTruth,
    results: Sequence[dict[str, Any]],
    *,
    task: Task,
    most: int = 100,
    regions: Sequence[Region] = ("mask", "box"),
    resampling: Bootstrap | None = None,
) -> dict[str, Estimate]:
    """Measure results by COCO's rules.

    Args:
        truth: Ground truth.
        results: COCO results of one or more images: "image_id", "score", "segmentation" (RLE), for
            detections "category_id", and "bbox" [x, y, w, h] if the box is not that of the mask.
            Images outside `truth` are left out.
        task: "proposals" ignores classes. AR@10, AR@100 and AR@1000 up to `most`, and the area
            under AR@1 ... AR@`most` (see `area_rank_weights`), each of all objects and by size, for
            masks and boxes; and the mean over objects of the best overlap of any of the 100 best
            proposals. "detections": AP over all classes, AP50, AP75, AP by size and by class, and
            AR@100.
        most: Number of proposals per image that count, the best. For detections it is COCO's 100.
        regions: Regions that overlaps are measured on; only boxes if results have no segmentation.
        resampling: Settings of the intervals; 1000 replicates by default.

    Raises:
        DataError: A mask is damaged, or of another size than its image.

    Returns:
        Estimates by name, such as "mask AR@100", "box AP50" or "mask AP, bird".
    """
    measurement = Measurement(truth, task=task, most=most, regions=regions)
    by_image = _by_image(results)
    for image in truth.images:
        found = by_image.get(image.identifier, [])
        measurement.add(image, [_checked(result, image) for result in found])
    return measurement.figures(resampling)


def _by_image(entries: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        found[entry["image_id"]].append(entry)
    return dict(found)


def _checked(result: dict[str, Any], image: Image) -> dict[str, Any]:
    """Check a mask, since pycocotools trusts it."""
    if "segmentation" not in result:
        return result
    try:
        rle = encode_segmentation(result["segmentation"], image.height, image.width)
    except ValueError as error:
        raise DataError(
            f"a result of image {image.identifier} has a bad mask: {error}",
            remedy="encode it again with pycocotools",
        ) from error
    return {**result, "segmentation": rle}


def _proposal_figures(
    accumulator: Accumulator, weights: NDArray[np.float64]
) -> dict[str, Estimate]:
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


def _overlap_figures(accumulator: Accumulator, weights: NDArray[np.float64]) -> dict[str, Estimate]:
    overlaps = accumulator.overlaps()
    best, families = overlaps.best, overlaps.families
    large = overlaps.shares >= _LARGE_SHARE
    return {
        "mean best overlap": estimate(mean(weights, best, families)),
        "mean best overlap, at least 1 % of the image": estimate(
            mean(weights, best[large], families[large])
        ),
    }


def _detection_figures(
    accumulator: Accumulator, weights: NDArray[np.float64]
) -> dict[str, Estimate]:
    region, everything = accumulator.region, accumulator.groups("all")
    by_class = [average_precisions(weights, group) for group in everything]
    averages = [precisions.mean(axis=1) for precisions in by_class]
    figures = {f"{region} AP": estimate(mean_over_groups(averages, len(weights)))}
    for name, threshold in (("AP50", 0), ("AP75", 5)):
        at = [precisions[:, threshold] for precisions in by_class]
        figures[f"{region} {name}"] = estimate(mean_over_groups(at, len(weights)))
    for size in _SIZES:
        sized = [
            average_precisions(weights, group).mean(axis=1) for group in accumulator.groups(size)
        ]
        figures[f"{region} AP, {size}"] = estimate(mean_over_groups(sized, len(weights)))
    recall = average_recall(weights, everything, np.ones(_DETECTIONS))
    figures[f"{region} AR@100"] = estimate(recall)
    for name, average in zip(accumulator.class_names, averages, strict=True):
        figures[f"{region} AP, class {name}"] = estimate(average)
    return figures
