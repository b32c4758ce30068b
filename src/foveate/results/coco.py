# SPDX-License-Identifier: Apache-2.0
"""Results of several images as one COCO document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycocotools import mask as coco_mask

from foveate.plain_text import json_text, portable_name

if TYPE_CHECKING:
    from foveate.results.detections import Detections


class CocoDocument:
    """A document with ``images``, ``categories`` and ``annotations``, whose ids start at 1.

    ``annotations`` alone is a COCO results list. Images without a result are listed too. Each entry
    is converted to text once, so that the document can be written after every image.

    Args:
        class_names: Names of the categories.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._images: list[str] = []
        self._annotations: list[str] = []
        self._categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]

    def __len__(self) -> int:
        return len(self._images)

    def add(self, file_name: str, detections: Detections) -> None:
        """Add the detections of an image."""
        _, height, width = detections.masks.shape
        image = len(self._images) + 1
        entries: list[str] = []
        for entry in detections.to_coco(image):
            entry["id"] = len(self._annotations) + len(entries) + 1
            entry["area"] = int(coco_mask.area(entry["segmentation"]))
            entry["iscrowd"] = 0
            entries.append(json_text(entry).rstrip())
        size = {"width": width, "height": height}
        self._annotations += entries
        self._images.append(
            json_text({"id": image, "file_name": portable_name(file_name), **size}).rstrip()
        )

    def to_json(self) -> str:
        """Return the document as text."""
        images, annotations = ", ".join(self._images), ", ".join(self._annotations)
        categories = json_text(self._categories).rstrip()
        return f'{{"images": [{images}], "categories": {categories}, "annotations": [{annotations}]}}\n'
