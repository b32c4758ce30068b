# SPDX-License-Identifier: Apache-2.0
"""Results that another program wrote, in COCO's format, checked record by record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.errors import DataError
from foveate.training.dataset.segmentations import SegmentationPacker
from foveate.training.evaluation.annotations import GroundTruth
from foveate.training.evaluation.matching import Region
from foveate.training.evaluation.measure import Task

__all__ = ["Results", "read_results"]

_REMEDY = "write a JSON list of objects with image_id, score, category_id, and segmentation or bbox"


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of a file, as `measure` takes them.

    Attributes:
        entries: In the order of the file.
        regions: What they have: masks and boxes, or boxes alone.
        elsewhere: How many were left out, since the data set has no such picture.
    """

    entries: list[dict[str, Any]]
    regions: tuple[Region, ...]
    elsewhere: int


def read_results(file: Path, truth: GroundTruth, *, task: Task) -> Results:
    """Read a list of COCO results.

    Args:
        file: JSON: a list of objects with "image_id", "score", and "segmentation" (run lengths or
            polygons) or "bbox" [x, y, w, h] in pixels of the picture; all of them or none have a
            segmentation. For detections "category_id" too.
        truth: Says which pictures and categories there are.
        task: Proposals need no category; theirs is not looked at.

    Raises:
        DataError: The file cannot be read, a record is damaged (the text says which), or none is
            of a picture of the data set.
    """
    content = _load(file)
    sizes = {picture.identifier: (picture.height, picture.width) for picture in truth.pictures}
    has_masks = not content or (isinstance(content[0], dict) and "segmentation" in content[0])
    entries, total = [], len(content)
    content.reverse()
    for position in range(total):
        record = content.pop()  # and freed, since all of them twice are gigabytes
        try:
            if _number(record, "image_id", whole=True) in sizes:
                entries.append(_entry(record, sizes, has_masks, by_class=task == "detections"))
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"result {position} cannot be used, {what}", file=file, remedy=_REMEDY
            ) from error
    if total and not entries:
        raise DataError(
            f"none of {total} results is of a picture of {truth.name}",
            file=file,
            remedy="name the data set that the results belong to",
        )
    return Results(
        entries=entries,
        regions=("mask", "box") if has_masks else ("box",),
        elsewhere=total - len(entries),
    )


def _load(file: Path) -> list[Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("no results can be read", file=file, remedy=_REMEDY) from error
    if not isinstance(content, list):
        raise DataError(
            f"expected a list of results, found {type(content).__name__}",
            file=file,
            remedy=_REMEDY,
        )
    return content


def _entry(
    record: Mapping[str, Any],
    sizes: Mapping[int, tuple[int, int]],
    has_masks: bool,
    *,
    by_class: bool,
) -> dict[str, Any]:
    """Copy what is needed of a record; a mask becomes a run-length code of the picture's size."""
    identifier = int(_number(record, "image_id", whole=True))
    entry: dict[str, Any] = {"image_id": identifier, "score": _number(record, "score")}
    if by_class:
        entry["category_id"] = int(_number(record, "category_id", whole=True))
    if ("segmentation" in record) != has_masks:
        raise ValueError("some results have a segmentation and some have none")
    if has_masks:
        packer, size = SegmentationPacker(), sizes[identifier]
        packer.add(record["segmentation"], *size)
        entry["segmentation"] = packer.pack().rle(0, *size)
    if not has_masks or "bbox" in record:
        entry["bbox"] = _box(record["bbox"])
    return entry


def _number(record: Any, key: str, *, whole: bool = False) -> float:
    if not isinstance(record, dict):
        raise TypeError(f"it is {type(record).__name__} and no object")
    value = record[key]
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise ValueError(f"its {key} is {value!r}")
    return value


def _box(value: Any) -> list[float]:
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(type(v) in (int, float) and math.isfinite(v) for v in value)
        or min(value[2:]) < 0
    ):
        raise ValueError(f"its bbox is {value!r}")
    return [float(v) for v in value]
