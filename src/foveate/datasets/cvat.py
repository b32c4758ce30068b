# SPDX-License-Identifier: Apache-2.0
"""Annotations of CVAT in its format "CVAT for images 1.1", converted to the form of COCO."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from pycocotools import mask as coco_mask

from foveate.datasets.fields import field, integer, number, read_file
from foveate.datasets.segmentations import encode_segmentation
from foveate.errors import DataError

_CORNERS = 64  # corners of the polygon that replaces an ellipse
_REMEDY = "export it from CVAT as 'CVAT for images 1.1'"


def read_cvat(file: Path) -> tuple[list[str], list[ET.Element]]:
    """Read a file of CVAT.

    Returns:
        The labels of its task, and the element of each image.

    Raises:
        DataError: The file cannot be read, or is not in this format.
    """
    try:
        text = read_file(file).decode("utf-8-sig")
        # Only a document type can define entities, which expand to gigabytes or read other files.
        if "<!DOCTYPE" in text:
            raise ValueError("it has a document type, which CVAT does not write")
        root = ET.fromstring(text)  # noqa: S314 - without a document type it is harmless
    except (ValueError, ET.ParseError) as error:
        raise DataError(f"the XML cannot be read ({error})", file=file, remedy=_REMEDY) from error
    images = root.findall("image")
    if root.tag != "annotations" or root.find("track") is not None:
        kind = (
            "is a video of CVAT" if root.tag == "annotations" else f"begins with <{root.tag:.40}>"
        )
        raise DataError(f"expected images of CVAT, but the file {kind}", file=file, remedy=_REMEDY)
    labels = [name.text or "" for name in root.findall("meta/*/labels/label/name")]
    return labels, images


def cvat_objects(image: ET.Element, height: int, width: int) -> list[dict[str, Any]]:
    """Return the objects of an image.

    Shapes of one label and group are one object. Boxes and ellipses become polygons.

    Returns:
        Annotations in the form of COCO with the label as "category_id", and with "score" if the
        first shape of the object has an attribute of this name.

    Raises:
        ValueError: A shape is damaged, or has no area by its type.
    """
    objects: dict[tuple[str, str], dict[str, Any]] = {}
    shapes = [shape for shape in image if shape.tag != "tag"]  # a tag is a label of the image
    for position, shape in enumerate(shapes, 1):
        try:
            label, part = field(shape.attrib, "label", str), _segmentation(shape, height, width)
        except ValueError as error:
            raise ValueError(f"shape {position}, a {shape.tag:.40}: {error}") from error
        group = shape.get("group_id", "0")
        key = (label, f"shape {position}" if group == "0" else group)
        scores = [one.text for one in shape.findall("attribute") if one.get("name") == "score"]
        score = {"score": scores[0]} if scores else {}
        one = objects.setdefault(key, {"category_id": label, "segmentation": [], **score})
        one["segmentation"].append(part)
    for one in objects.values():
        one["segmentation"] = _joined(one["segmentation"], height, width)
    return list(objects.values())


def _joined(parts: list[Any], height: int, width: int) -> Any:
    """Return the segmentation of an object with several parts, polygons or run-length codes."""
    if all(isinstance(part, list) for part in parts):
        return parts
    nested = ([part] if isinstance(part, list) else part for part in parts)
    return coco_mask.merge([encode_segmentation(part, height, width) for part in nested])


def _segmentation(shape: ET.Element, height: int, width: int) -> Any:
    """Return a shape as a polygon of COCO, or as a run-length code."""
    if shape.tag == "mask":
        return _mask(shape.attrib, height, width)
    if shape.tag not in _OUTLINES:
        raise ValueError(f"expected one of {', '.join(_OUTLINES)} and mask, which have an area")
    return _OUTLINES[shape.tag](shape.attrib)


def _polygon(values: Mapping[str, str]) -> list[float]:
    return [number(c) for pair in field(values, "points", str).split(";") for c in pair.split(",")]


def _box(values: Mapping[str, str]) -> list[float]:
    x1, y1, x2, y2 = (field(values, key, number) for key in ("xtl", "ytl", "xbr", "ybr"))
    return _turned(values, (x1 + x2) / 2, (y1 + y2) / 2, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


def _ellipse(values: Mapping[str, str]) -> list[float]:
    x, y, rx, ry = (field(values, key, number) for key in ("cx", "cy", "rx", "ry"))
    angles = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
    return _turned(values, x, y, [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles])


def _turned(
    values: Mapping[str, str], x: float, y: float, points: list[tuple[float, float]]
) -> list[float]:
    """Return points, turned clockwise around a center by the rotation of the shape, in degrees."""
    angle = math.radians(field(values, "rotation", number) if "rotation" in values else 0)
    turn = complex(math.cos(angle), math.sin(angle))
    turned = [complex(x, y) + turn * complex(px - x, py - y) for px, py in points]
    return [coordinate for point in turned for coordinate in (point.real, point.imag)]


def _mask(values: Mapping[str, str], height: int, width: int) -> dict[str, Any]:
    """Return a mask, whose lengths of runs go row by row in its box and begin with background."""
    left, top, columns, rows = (
        field(values, key, integer) for key in ("left", "top", "width", "height")
    )
    if min(left, top, columns, rows) < 0 or left + columns > width or top + rows > height:
        raise ValueError(f"its box lies outside of the image of {width} x {height} pixels")
    runs = [integer(run.strip()) for run in field(values, "rle", str).split(",")]
    if min(runs) < 0 or sum(runs) != columns * rows:
        raise ValueError(f"its runs cover {sum(runs)} pixels, not {columns} x {rows}")
    pixels = np.zeros((height, width), np.uint8, order="F")
    inside = np.repeat(np.arange(len(runs)) % 2, runs).reshape(rows, columns)
    pixels[top : top + rows, left : left + columns] = inside
    code: dict[str, Any] = coco_mask.encode(pixels)
    return code


_OUTLINES: dict[str, Callable[[Mapping[str, str]], list[float]]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
}
