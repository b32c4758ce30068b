# SPDX-License-Identifier: Apache-2.0
"""What was matched with what, by pycocotools, as arrays that can be weighted again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.training.evaluation.annotations import GroundTruth
from foveate.training.evaluation.coco import AREAS, Region, run_matching

__all__ = ["THRESHOLDS", "Group", "Matching", "Overlaps", "match"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's ten overlaps at which a result may count as right."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The results and objects of one category and one range of areas; T = 10 thresholds.

    Attributes:
        objects: (G,) int64, the family of each object that counts (no crowd, area in range).
        ranks: (D,) int64, a result's place by score in its picture and category, from 0. Results
            are sorted by score, best first, over all pictures; equals stay in pycocotools' order.
        matched: (T, D) int64, the family of the object that a result was matched with, or -1.
        ignored: (T, D) bool, the result counts neither as right nor as wrong.
    """

    objects: NDArray[np.int64]
    ranks: NDArray[np.int64]
    matched: NDArray[np.int64]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Overlaps:
    """The best overlap of any result with each object, crowds left out.

    Attributes:
        best: (G,) float64, intersection over union in 0..1.
        families: (G,) int64.
        shares: (G,) float64, the object's area as a share of its picture's.
    """

    best: NDArray[np.float64]
    families: NDArray[np.int64]
    shares: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Matching:
    """All groups, by area name and then by category.

    Attributes:
        groups: One `Group` a category, for each of "all", "small", "medium" and "large".
        class_names: Names of the categories, or ("",) where classes were not regarded.
        overlaps: Best overlaps, only where classes were not regarded.
    """

    groups: dict[str, tuple[Group, ...]]
    class_names: tuple[str, ...]
    overlaps: Overlaps | None


def match(
    truth: GroundTruth,
    results: Sequence[dict[str, Any]],
    *,
    region: Region,
    by_class: bool,
    most: int = 100,
) -> Matching:
    """Match results with the ground truth once; see `coco.run_matching` for the arguments."""
    evaluated = run_matching(truth.coco, results, region=region, by_class=by_class, most=most)
    names = {identifier: name for name, identifier in truth.category_ids.items()}
    class_names = tuple(names[i] for i in evaluated.params.catIds) if by_class else ("",)
    # evalImgs is flat: categories, then areas, then pictures.
    pictures = len(evaluated.params.imgIds)
    cells = iter(
        evaluated.evalImgs[i : i + pictures]
        for i in range(0, len(class_names) * len(AREAS) * pictures, pictures)
    )
    groups: dict[str, list[Group]] = {area: [] for area in AREAS}
    for _ in class_names:
        for area in AREAS:
            groups[area].append(_group(truth, [cell for cell in next(cells) if cell is not None]))
    return Matching(
        groups={area: tuple(found) for area, found in groups.items()},
        class_names=class_names,
        overlaps=None if by_class else _overlaps(truth, evaluated),
    )


def _group(truth: GroundTruth, pictures: list[dict[str, Any]]) -> Group:
    """Gather the pictures of one category and area, as `COCOeval.accumulate` does."""
    depth = len(THRESHOLDS)
    if not pictures:
        nothing = np.zeros(0, np.int64)
        empty = np.zeros((depth, 0))
        return Group(
            objects=nothing,
            ranks=nothing,
            matched=empty.astype(np.int64),
            ignored=empty.astype(bool),
        )
    counted = [
        np.array(p["gtIds"], np.float64)[np.asarray(p["gtIgnore"], np.int64) == 0] for p in pictures
    ]
    scores = np.concatenate([np.array(p["dtScores"], np.float64) for p in pictures])
    order = np.argsort(-scores, kind="mergesort")
    ranks = np.concatenate([np.arange(len(p["dtScores"])) for p in pictures])
    matches = np.concatenate([p["dtMatches"] for p in pictures], axis=1)
    ignored = np.concatenate([p["dtIgnore"] for p in pictures], axis=1).astype(bool)
    return Group(
        objects=truth.family_of(np.concatenate(counted)),
        ranks=ranks[order].astype(np.int64),
        matched=truth.family_of(matches)[:, order],
        ignored=ignored[:, order],
    )


def _overlaps(truth: GroundTruth, evaluated: Any) -> Overlaps:
    best: list[float] = []
    identifiers: list[float] = []
    shares: list[float] = []
    for picture in truth.pictures:
        objects = [
            o
            for category in evaluated.params.catIds
            for o in evaluated._gts[picture.identifier, category]  # noqa: SLF001 - in the order of `ious`
        ]
        ious = np.asarray(evaluated.ious[picture.identifier, -1], np.float64)
        for column, o in enumerate(objects):
            if not o["iscrowd"]:
                best.append(float(ious[:, column].max()) if ious.size else 0.0)
                identifiers.append(o["id"])
                shares.append(o["area"] / (picture.height * picture.width))
    return Overlaps(
        best=np.array(best),
        families=truth.family_of(np.array(identifiers, np.float64)),
        shares=np.array(shares),
    )
