# SPDX-License-Identifier: Apache-2.0
"""Small images in COCO's layout: gray, with plainly colored objects, crowds and none at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

# Classes by id: name, supercategory, color of the objects.
CATEGORIES = {
    1: ("person", "person", (230, 20, 20)),
    17: ("cat", "animal", (20, 20, 230)),
    64: ("potted plant", "furniture", (20, 230, 20)),
}
# For each image: category, left, top, width, height, crowd or not; inside their box objects are
# ellipses, and crowds are rectangles.
IMAGES: dict[str, list[tuple[int, int, int, int, int, int]]] = {
    "person.png": [(1, 20, 20, 60, 80, 0)],
    "plant.png": [(64, 70, 30, 50, 40, 0), (1, 10, 60, 40, 50, 0)],
    "crowd.png": [(1, 0, 0, 90, 40, 1), (17, 60, 60, 50, 40, 0)],
    "nothing.png": [],
}
HEIGHT, WIDTH = 120, 160


def write_photographs(folder: Path, parts: tuple[str, ...] = ("train", "val")) -> Path:
    """Write a data set in COCO's layout whose parts have the same images."""
    (folder / "annotations").mkdir(parents=True)
    for part in parts:
        (folder / f"{part}2017").mkdir()
        content = _content(folder / f"{part}2017")
        file = folder / "annotations" / f"instances_{part}2017.json"
        file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def _content(folder: Path) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, objects) in enumerate(IMAGES.items(), 10):
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        for category, x, y, width, height, crowd in objects:
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            center, axes = (x + width // 2, y + height // 2), (width // 2 - 1, height // 2 - 1)
            cv2.ellipse(mask, center, axes, 0, 0, 360, 1, -1)
            if crowd:
                mask[y : y + height, x : x + width] = 1
            image[mask == 1] = CATEGORIES[category][2]
            code = coco_mask.encode(np.asfortranarray(mask))
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": number,
                    "category_id": category,
                    "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                    "bbox": coco_mask.toBbox(code).tolist(),
                    "area": int(mask.sum()) + 0.5,
                    "iscrowd": crowd,
                }
            )
        cv2.imwrite(str(folder / name), image[..., ::-1])
        images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
    categories = [
        {"id": number, "name": name, "supercategory": group}
        for number, (name, group, _) in CATEGORIES.items()
    ]
    return {"images": images, "annotations": annotations, "categories": categories}
