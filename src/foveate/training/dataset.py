# SPDX-License-Identifier: Apache-2.0
"""A COCO-format instance data set on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from foveate.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One annotated object.

    Attributes:
        label: class index from 0, in the order of the data set's category ids.
        box: (4,) float32 x1, y1, x2, y2 in picture pixels, right and bottom exclusive.
        mask: (H, W) uint8, 1 on the object's visible pixels.
    """

    label: int
    box: NDArray[np.float32]
    mask: NDArray[np.uint8]


class CocoDataset:
    """Pictures and their instances; crowds are left out.

    Args:
        directory: holds `annotations.json` and `pictures/`.

    Raises:
        DataError: the annotations are missing or unreadable.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        annotations = directory / "annotations.json"
        try:
            content = json.loads(annotations.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                "no COCO annotations can be read",
                file=annotations,
                remedy="make a data set by `foveate compose`",
            ) from error
        categories = sorted(content["categories"], key=lambda category: int(category["id"]))
        self.class_names = tuple(str(category["name"]) for category in categories)
        self._label = {int(category["id"]): i for i, category in enumerate(categories)}
        self._pictures: list[dict[str, Any]] = content["images"]
        self._annotations: dict[int, list[dict[str, Any]]] = {}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd", 0):
                self._annotations.setdefault(int(annotation["image_id"]), []).append(annotation)

    def __len__(self) -> int:
        return len(self._pictures)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Read a picture: (H, W, 3) uint8 RGB.

        Raises:
            DataError: its file is missing or is no picture.
        """
        path = self.directory / "pictures" / str(self._pictures[index]["file_name"])
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise DataError(
                "no picture can be read", file=path, remedy="compose the data set again"
            )
        return picture.astype(np.uint8, copy=False)

    def instances(self, index: int) -> list[Instance]:
        """Decode the instances of a picture."""
        picture = self._pictures[index]
        size = (int(picture["height"]), int(picture["width"]))
        found = []
        for annotation in self._annotations.get(int(picture["id"]), []):
            x, y, width, height = annotation["bbox"]
            found.append(
                Instance(
                    label=self._label[int(annotation["category_id"])],
                    box=np.array([x, y, x + width, y + height], np.float32),
                    mask=_decode(annotation["segmentation"], size),
                )
            )
        return found


def _decode(segmentation: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    mask: NDArray[np.uint8] = coco_mask.decode(rle)
    return mask
