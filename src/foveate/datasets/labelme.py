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
    """
    images: list[dict[str, Any]] = []
    objects: dict[tuple[int, str, str], list[Any]] = {}
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
        for number, shape in enumerate(_shapes(content)):
            kind = str(shape.get("shape_type", "polygon"))
            if kind not in _OUTLINES or not isinstance(shape.get("label"), str):
                left_out[kind] += 1
                continue
            group = shape.get("group_id")
            key = (identifier, shape["label"], f"shape {number}" if group is None else str(group))
            objects.setdefault(key, []).append(_outline(kind, shape.get("points")))
    if left_out:
        kinds = ", ".join(f"{count} of type {kind}" for kind, count in left_out.most_common())
        _log.warning(
            "shapes of %s were left out, because they have no label or no area: %s", folder, kinds
        )
    categories = {label: i for i, label in enumerate(sorted({key[1] for key in objects}), 1)}
    annotations = [
        {"id": i, "image_id": image, "category_id": categories[label], "segmentation": outline}
        for i, ((image, label, _), outline) in enumerate(objects.items(), 1)
    ]
    named = [{"id": i, "name": label} for label, i in categories.items()]
    return {"images": images, "categories": named, "annotations": annotations}


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
    return (s for s in (shapes if isinstance(shapes, list) else ()) if isinstance(s, dict))


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
    "circle": _circle,
}
