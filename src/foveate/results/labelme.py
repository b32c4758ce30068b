# SPDX-License-Identifier: Apache-2.0
"""Files of labelme: one per image."""

from collections.abc import Sequence
from typing import Any

from foveate.plain_text import json_text, portable_name
from foveate.results.labeled import LabeledObject

_VERSION = "6.3.1"  # the release whose reader the tests use


def labelme_json(image_path: str, height: int, width: int, objects: Sequence[LabeledObject]) -> str:
    """Return the content of the file of an image.

    Each part of an object is a shape. The shapes of an object with several parts have a number in
    ``group_id``. labelme ignores ``score`` and keeps it.

    Args:
        image_path: Path of the image, relative to the directory of the file.
        height: Number of rows of the image.
        width: Number of columns of the image.
        objects: Objects of the image.
    """
    shapes = [
        {
            "label": one.label,
            "points": polygon.tolist(),
            "group_id": number if len(one.polygons) > 1 else None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
            "score": one.score,
        }
        for number, one in enumerate(objects, 1)
        for polygon in one.polygons
    ]
    content: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": portable_name(image_path),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json_text(content, indent=2)
