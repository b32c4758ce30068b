# SPDX-License-Identifier: Apache-2.0
"""A data set of COCO: one file for all images."""

from collections.abc import Sequence

import numpy as np

from foveate.plain_text import json_text, portable_name
from foveate.results.labeled import LabeledObject


class CocoLabels:
    """Annotations with polygons, for instance segmentation; ids start at 1.

    Images without an object are listed too. Each entry is converted to text once, so that the file
    can be written after every image.

    Args:
        class_names: Names of the categories.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._ids = {name: i for i, name in enumerate(class_names, 1)}
        self._images: list[str] = []
        self._annotations: list[str] = []

    def __len__(self) -> int:
        return len(self._images)

    def add(self, name: str, height: int, width: int, objects: Sequence[LabeledObject]) -> None:
        """Add an image by its file name."""
        number = len(self._images) + 1
        image = {"id": number, "file_name": portable_name(name), "width": width, "height": height}
        self._images.append(json_text(image).rstrip())
        for one in objects:
            flat = [np.round(polygon, 1).ravel().tolist() for polygon in one.polygons]
            entry = {
                "id": len(self._annotations) + 1,
                "image_id": number,
                "category_id": self._ids[one.label],
                "segmentation": flat,
                "area": one.area,
                "bbox": one.box,
                "iscrowd": 0,
                "score": one.score,
            }
            self._annotations.append(json_text(entry).rstrip())

    def to_text(self) -> str:
        """Return the content of the file."""
        categories = [{"id": i, "name": name, "supercategory": ""} for name, i in self._ids.items()]
        parts = {
            "info": json_text({"description": "Annotations by Foveate"}).rstrip(),
            "licenses": "[]",
            "categories": json_text(categories).rstrip(),
            "images": f"[{', '.join(self._images)}]",
            "annotations": f"[{', '.join(self._annotations)}]",
        }
        return "{" + ", ".join(f'"{name}": {text}' for name, text in parts.items()) + "}\n"
