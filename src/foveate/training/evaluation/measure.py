# SPDX-License-Identifier: Apache-2.0
"""From a list of results to named figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foveate.training.evaluation.annotations import GroundTruth
from foveate.training.evaluation.bootstrap import (
    Figure,
    Resampling,
    average_precision,
    average_recall,
    estimate,
    mean,
)
from foveate.training.evaluation.coco import Region
from foveate.training.evaluation.matching import Matching, match

__all__ = ["Task", "measure"]

Task = Literal["proposals", "detections"]

_REGIONS: tuple[Region, ...] = ("mask", "box")
_SIZES = ("small", "medium", "large")
_LARGE_SHARE = 0.01  # of the picture: what a person would call an object at first sight


def measure(
    truth: GroundTruth,
    results: Sequence[dict[str, Any]],
    *,
    task: Task,
    resampling: Resampling | None = None,
) -> dict[str, Figure]:
    """Measure results by COCO's rules.

    Args:
        truth: What is right.
        results: COCO results of one picture or more: "image_id", "score", "segmentation" (RLE),
            for detections "category_id", and where the box is not the mask's own "bbox"
            [x, y, w, h]. Of a picture the best 100 count. Pictures outside `truth` are left out.
        task: "proposals" regards no classes. AR@10 and AR@100, by size of object, for masks and
            boxes, and the mean over objects of the best overlap of any of the 100 proposals.
            "detections": AP over all classes, AP50, AP75, AP by size and by class, and AR@100.
        resampling: For the intervals; 1000 replicates by default.

    Returns:
        Figures by name, such as "mask AR@100", "box AP50" or "mask AP, bird".
    """
    weights = (resampling or Resampling()).weights(truth.families)
    known = {picture.identifier for picture in truth.pictures}
    results = [result for result in results if result["image_id"] in known]
    if task == "proposals":
        # Matching without classes still looks results up by a category that exists.
        category = min(truth.category_ids.values(), default=1)
        results = [{**result, "category_id": category} for result in results]
    figures: dict[str, Figure] = {}
    for region in _REGIONS:
        matching = match(truth, results, region=region, by_class=task == "detections")
        if task == "proposals":
            figures |= _proposal_figures(matching, region, weights)
        else:
            figures |= _detection_figures(matching, region, weights)
    return figures


def _proposal_figures(
    matching: Matching, region: Region, weights: NDArray[np.float64]
) -> dict[str, Figure]:
    def recall(area: str, most: int) -> Figure:
        return estimate(weights, partial(average_recall, groups=matching.groups[area], most=most))

    figures = {f"{region} AR@10": recall("all", 10), f"{region} AR@100": recall("all", 100)}
    figures |= {f"{region} AR@100, {size}": recall(size, 100) for size in _SIZES}
    if region == "mask" and matching.overlaps is not None:
        best, families = matching.overlaps.best, matching.overlaps.families
        large = matching.overlaps.shares >= _LARGE_SHARE
        figures["mean best overlap"] = estimate(
            weights, partial(mean, values=best, families=families)
        )
        figures["mean best overlap, at least 1 % of the picture"] = estimate(
            weights, partial(mean, values=best[large], families=families[large])
        )
    return figures


def _detection_figures(
    matching: Matching, region: Region, weights: NDArray[np.float64]
) -> dict[str, Figure]:
    everything = matching.groups["all"]
    figures = {
        f"{region} AP": estimate(weights, partial(average_precision, groups=everything)),
        f"{region} AP50": estimate(
            weights, partial(average_precision, groups=everything, thresholds=[0])
        ),
        f"{region} AP75": estimate(
            weights, partial(average_precision, groups=everything, thresholds=[5])
        ),
    }
    for size in _SIZES:
        figures[f"{region} AP, {size}"] = estimate(
            weights, partial(average_precision, groups=matching.groups[size])
        )
    figures[f"{region} AR@100"] = estimate(
        weights, partial(average_recall, groups=everything, most=100)
    )
    for name, group in zip(matching.class_names, everything, strict=True):
        figures[f"{region} AP, class {name}"] = estimate(
            weights, partial(average_precision, groups=[group])
        )
    return figures
