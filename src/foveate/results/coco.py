# SPDX-License-Identifier: Apache-2.0
"""Detections and proposals as COCO results, and documents of the results of several images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

from foveate.plain_text import json_text, portable_name
from foveate.results.arguments import checked_integer

if TYPE_CHECKING:
    from foveate.arrays import Float32Array, Int64Array
    from foveate.results.detections import Detections, Proposals
    from foveate.results.masks import Masks


def coco_results(
    image_id: int, boxes: Float32Array, scores: Float32Array, labels: Int64Array, masks: Masks
) -> list[dict[str, Any]]:
    """Return COCO results with category ids from 1, xywh boxes and run-length masks.

    Args:
        image_id: Id of the image.
        boxes: (N, 4) float32 xyxy in pixels of the image.
        scores: (N,) float32.
        labels: (N,) class indices from 0.
        masks: N masks.
    """
    number = checked_integer("image_id", image_id)  # the JSON encoder rejects NumPy integers
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    rows = zip(sizes.tolist(), scores.tolist(), labels.tolist(), masks.rle(), strict=True)
    return [
        {
            "image_id": number,
            "category_id": label + 1,
            "bbox": [round(value, 3) for value in box],
            "score": score,
            "segmentation": code,
        }
        for box, score, label, code in rows
    ]


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

    def add(self, file_name: str, found: Detections | Proposals) -> None:
        """Add the results of an image."""
        _, height, width = found.masks.shape
        image = len(self._images) + 1
        entries: list[str] = []
        for entry in found.to_coco(image):
            entry["id"] = len(self._annotations) + len(entries) + 1
            entry["area"] = int(coco_mask.area(entry["segmentation"]))
            entry["iscrowd"] = 0
            entries.append(json_text(entry).rstrip())
        size = {"width": width, "height": height}
        self._annotations += entries
        self._images.append(
            json_text({"id": image, "file_name": portable_name(file_name), **size}).rstrip()
        )

    def to_text(self) -> str:
        """Return the document as JSON."""
        images, annotations = ", ".join(self._images), ", ".join(self._annotations)
        categories = json_text(self._categories).rstrip()
        return f'{{"images": [{images}], "categories": {categories}, "annotations": [{annotations}]}}\n'
