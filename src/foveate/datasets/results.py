# SPDX-License-Identifier: Apache-2.0
"""Results of an image that were saved in the form of COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from foveate.datasets.segmentations import decode_rle, encode_segmentation
from foveate.errors import DataError
from foveate.results.detections import Detections
from foveate.results.run_masks import RunMasks, column_runs


def detections_from_coco(
    entries: Sequence[Mapping[str, Any]],
    *,
    height: int,
    width: int,
    categories: Mapping[int, str] | Sequence[str],
) -> Detections:
    """Return the detections of one image from COCO results or annotations, best first.

    It reads what ``Detections.to_coco``, ``Detections.save`` and ``foveate label`` write. An entry
    without a score has the score 1, and one without a box gets that of its mask.

    Args:
        entries: Objects with "category_id" and "segmentation", polygons or a run-length code, and
            perhaps "score" and "bbox".
        height: Number of rows of the image.
        width: Number of columns of the image.
        categories: Name of each category id, or the names of the ids from 1.

    Raises:
        DataError: An entry has an unknown category, or a segmentation of another size or form.
    """
    if not isinstance(categories, Mapping):
        categories = dict(enumerate(categories, 1))
    labels = {category: label for label, category in enumerate(categories)}
    runs, found = [], []
    for number, entry in enumerate(entries):
        try:
            code = encode_segmentation(entry.get("segmentation"), height, width)
            score, label = float(entry.get("score", 1.0)), labels[entry["category_id"]]
            x, y, w, h = entry["bbox"] if "bbox" in entry else _box(code)
        except (KeyError, TypeError, ValueError) as error:
            what = f"entry {number} cannot be used ({type(error).__name__}: {error})"
            remedy = "expected category_id, segmentation and bbox of an image of this size"
            raise DataError(what, remedy=remedy) from error
        runs.append(column_runs(decode_rle(code)))
        found.append((x, y, x + w, y + h, score, label))
    table = np.array(found, np.float64).reshape(-1, 6)
    order = np.argsort(-table[:, 4], kind="stable")
    table = table[order]
    return Detections(
        boxes=table[:, :4].astype(np.float32),
        scores=table[:, 4].astype(np.float32),
        labels=table[:, 5].astype(np.int64),
        class_names=tuple(categories.values()),
        masks=RunMasks([runs[i] for i in order.tolist()], height=height, width=width),
        proposals=order,
    )


def _box(code: dict[str, Any]) -> list[float]:
    """Return x, y, width and height of the box of a mask."""
    box: list[float] = coco_mask.toBbox(code).tolist()
    return box
