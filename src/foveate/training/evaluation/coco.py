# SPDX-License-Identifier: Apache-2.0
"""The only door to pycocotools' classes: it is untyped, and it prints."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["AREAS", "Region", "build_index", "run_matching"]

Region = Literal["mask", "box"]

# COCO's area ranges, in the order of its parameter `areaRng`.
AREAS = ("all", "small", "medium", "large")


def build_index(
    images: Sequence[dict[str, Any]],
    categories: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
) -> Any:
    """Make a `COCO` object of decoded annotations."""
    coco = COCO()
    coco.dataset = {
        "images": list(images),
        "categories": list(categories),
        "annotations": list(annotations),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def run_matching(
    truth: Any, results: Sequence[dict[str, Any]], *, region: Region, by_class: bool, most: int
) -> Any:
    """Match results with objects, picture by picture, and return the `COCOeval`.

    Args:
        truth: A `COCO` object.
        results: COCO results: image_id, category_id, score, segmentation (RLE), bbox [x, y, w, h].
        region: What overlaps are measured on.
        by_class: Match only within a category.
        most: Best results of a picture (and category) that count.
    """
    found = build_index(
        truth.dataset["images"],
        truth.dataset["categories"],
        [_complete(result, i, region) for i, result in enumerate(results, 1)],
    )
    matching = COCOeval(truth, found, "segm" if region == "mask" else "bbox")
    matching.params.useCats = int(by_class)
    matching.params.maxDets = [most]
    with contextlib.redirect_stdout(io.StringIO()):
        matching.evaluate()
    return matching


def _complete(result: dict[str, Any], identifier: int, region: Region) -> dict[str, Any]:
    """Add what `COCO.loadRes` would: an id from 1, and the area of the region in question."""
    full = {**result, "id": identifier, "iscrowd": 0}
    if "bbox" not in full:
        full["bbox"] = coco_mask.toBbox(full["segmentation"]).tolist()
    if region == "mask":
        full["area"] = float(coco_mask.area(full["segmentation"]))
    else:
        full["area"] = float(full["bbox"][2] * full["bbox"][3])
    return full
