# SPDX-License-Identifier: Apache-2.0
"""Results of several pictures as one COCO document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from foveate.detections import Detections

__all__ = ["CocoDocument"]


class CocoDocument:
    """Collects ``images``, ``categories`` and ``annotations``, with ids from 1.

    ``annotations`` alone is a COCO results list. A picture without a result is listed too.

    Args:
        class_names: Names of the categories.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]

    def __len__(self) -> int:
        return len(self._images)

    def add(self, file_name: str, detections: Detections) -> None:
        """Add what was found in a picture."""
        _, height, width = detections.masks.shape
        image = len(self._images) + 1
        size = {"width": width, "height": height}
        self._images.append({"id": image, "file_name": file_name, **size})
        for entry in detections.to_coco(image):
            entry["id"] = len(self._annotations) + 1
            entry["area"] = int(coco_mask.area(entry["segmentation"]))
            entry["iscrowd"] = 0
            self._annotations.append(entry)

    def to_json(self) -> str:
        """Return the document as text."""
        content = {
            "images": self._images,
            "categories": self._categories,
            "annotations": self._annotations,
        }
        return json.dumps(content) + "\n"
