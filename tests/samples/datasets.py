# SPDX-License-Identifier: Apache-2.0
"""A small data set of drawn squares, and records of it to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from foveate.datasets import read_annotations

HEIGHT, WIDTH = 30, 40
SQUARE = [[10, 5, 20, 5, 20, 15, 10, 15]]


def square_mask() -> Any:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[5:15, 10:20] = 1
    return mask


def annotation(**changes: Any) -> dict[str, Any]:
    """A good annotation, changed; a key of value None is taken out."""
    entry = {
        "id": 1,
        "image_id": 1,
        "category_id": 3,
        "segmentation": SQUARE,
        "bbox": [10, 5, 10, 10],
        "area": 100.0,
        "iscrowd": 0,
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def content(*annotations: Any, **changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": list(annotations),
        **changes,
    }


def write(directory: Path, data: Any, images: str = "images") -> Path:
    (directory / images).mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        image = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
        cv2.imwrite(str(directory / images / f"{number}.png"), image)
    (directory / "annotations.json").write_text(json.dumps(data), encoding="utf-8")
    return directory


def read(*annotations: Any, strict: bool = False) -> Any:
    return read_annotations(content(*annotations), file=Path("some.json"), strict=strict)


def compressed() -> dict[str, Any]:
    rle = coco_mask.encode(square_mask())
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def run_lengths() -> dict[str, Any]:
    flat = square_mask().ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": counts}
