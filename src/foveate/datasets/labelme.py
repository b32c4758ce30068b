# SPDX-License-Identifier: Apache-2.0
"""labelme's annotations, one file per image, converted to the form of COCO."""

import logging
import math
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foveate.datasets.fields import read_json
from foveate.errors import DataError

_log = logging.getLogger(__name__)
_CORNERS = 64  # corners of the polygon that replaces a circle


def read_labelme(folder: Path) -> dict[str, Any]:
    """Read labelme's files in a directory and in its subdirectories.

    Polygons of one label and group are one object; rectangles and circles become polygons. Other
    shapes are left out, and their number is logged. Categories are the labels, sorted by name.

    Returns:
        "images", "categories" and "annotations" in the form of COCO, unchecked.

    Raises:
        DataError: There are none.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        content = _content(file)
        if content is None:
            continue
        where = file.parent.relative_to(folder).as_posix()
        name = str(content.get("imagePath") or f"{file.stem}.jpg").replace("\\", "/")
        identifier = len(images) + 1
        size = {"height": content.get("imageHeight"), "width": content.get("imageWidth")}
        path = posixpath.normpath(posixpath.join(where, name))
        images.append({"id": identifier, "file_name": path, **size})
        objects, others = labelme_objects(content)
        annotations += [{"image_id": identifier, **one} for one in objects]
        left_out.update(others)
    if not images:
        remedy = "name the COCO file of a data set, or a directory with files of labelme"
        raise DataError("the directory contains no file of labelme", file=folder, remedy=remedy)
    if left_out:
        kinds = ", ".join(f"{count} of type {kind}" for kind, count in left_out.most_common())
        _log.warning(
            "shapes of %s were left out, because they have no label or no outline: %s",
            folder,
            kinds,
        )
    labels = sorted({one["category_id"] for one in annotations})
    categories = {label: i for i, label in enumerate(labels, 1)}
    for number, one in enumerate(annotations, 1):
        one.update(id=number, category_id=categories[one["category_id"]])
    named = [{"id": i, "name": label} for label, i in categories.items()]
    return {"images": images, "categories": named, "annotations": annotations}


def labelme_objects(content: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the objects of one file, and the types of the shapes that are left out.

    Returns:
        Annotations in the form of COCO, unchecked, with the label as "category_id", and with "score"
        if the first shape of the object has one.
    """
    objects: dict[tuple[str, str], dict[str, Any]] = {}
    others = []
    for number, shape in enumerate(_shapes(content)):
        kind, label = str(shape.get("shape_type", "polygon")), shape.get("label")
        if kind not in _OUTLINES or not isinstance(label, str):
            others.append(kind)
            continue
        group = shape.get("group_id")
        score = {"score": shape["score"]} if "score" in shape else {}
        one = objects.setdefault(
            (label, f"shape {number}" if group is None else str(group)),
            {"category_id": label, "segmentation": [], **score},
        )
        one["segmentation"].append(_outline(kind, shape.get("points")))
    return list(objects.values()), others


def _content(file: Path) -> dict[str, Any] | None:
    """Return the content of a labelme file; empty if damaged, None if it is another file."""
    try:
        content = read_json(file, remedy="save it with labelme again")
    except DataError as error:
        _log.warning("an image is left out: %s", error)
        return {}
    return content if isinstance(content, dict) and "shapes" in content else None


def _shapes(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    shapes = content.get("shapes")
    for shape in shapes if isinstance(shapes, list) else ():
        yield shape if isinstance(shape, dict) else {"shape_type": type(shape).__name__}


def _outline(kind: str, points: Any) -> list[float] | None:
    """Return a shape as COCO's polygon; None, an invalid polygon, if its points are damaged."""
    try:
        return [float(c) for x, y in _OUTLINES[kind]([(x, y) for x, y in points]) for c in (x, y)]
    except (TypeError, ValueError, OverflowError):
        return None


def _rectangle(points: list[Any]) -> list[Any]:
    if len(points) != 2:
        return points  # a rotated one has four corners
    (x1, y1), (x2, y2) = points
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def _circle(points: list[Any]) -> list[Any]:
    (x, y), edge = points
    radius = math.dist((x, y), edge)
    angles = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


_OUTLINES: dict[str, Callable[[list[Any]], list[Any]]] = {
    "polygon": list,
    "rectangle": _rectangle,
    "rotation": list,
    "oriented_rectangle": list,
    "circle": _circle,
}
