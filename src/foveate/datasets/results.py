# SPDX-License-Identifier: Apache-2.0
"""Detections of an image from a file of another program: results or annotations of COCO, labelme or CVAT."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from foveate.datasets.cvat import cvat_objects, read_cvat
from foveate.datasets.fields import image_size, number, read_json
from foveate.datasets.labelme import labelme_objects
from foveate.datasets.segmentations import decode_rle, encode_segmentation
from foveate.errors import DataError
from foveate.results.detections import Detections
from foveate.results.run_masks import RunMasks, column_runs


def detections_from_coco(
    entries: Sequence[Mapping[str, Any]],
    *,
    height: int,
    width: int,
    categories: Mapping[int, str] | Sequence[str],
) -> Detections:
    """Return the detections of one image from COCO results or annotations, best first.

    It reads what ``Detections.to_coco``, ``Detections.save`` and ``foveate label`` write. An entry
    without a score has the score 1, and one without a box gets that of its mask.

    Args:
        entries: Objects with "category_id" and "segmentation", polygons or a run-length code, and
            perhaps "score" and "bbox".
        height: Number of rows of the image.
        width: Number of columns of the image.
        categories: Name of each category id, or the names of the ids from 1.

    Raises:
        DataError: An entry has an unknown category, or a segmentation of another size or form.
    """
    if not isinstance(categories, Mapping):
        categories = dict(enumerate(categories, 1))
    try:
        return _detections(entries, height, width, categories)
    except ValueError as error:
        remedy = "expected category_id, segmentation and bbox of an image of this size"
        raise DataError(str(error), remedy=remedy) from error


def detections_from_labelme(
    file: str | os.PathLike[str], *, class_names: Sequence[str] | None = None
) -> Detections:
    """Return the detections of one image from its file of labelme, best first.

    It reads what ``Detections.to_labelme`` and ``foveate label`` write, and what people made of it.
    Shapes of one label and group are one object, with the box of its mask. Rectangles and circles
    are read as well. An object without a score has the score 1.

    Args:
        file: The ``.json`` file of the image.
        class_names: Names of all classes, in order; by default the labels of the file, sorted.

    Raises:
        DataError: The file cannot be read or is not of labelme, or a shape has no area, lies outside
            of the image, or has an unknown label.
    """
    remedy = "correct it in labelme, and save it again"
    content = read_json(Path(file), remedy=remedy)
    try:
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise ValueError("expected a file of labelme, with a list of shapes")
        height, width = image_size(content, "imageHeight", "imageWidth")
        objects, others = labelme_objects(content)
        if others:
            raise ValueError(f"a shape has no label or no outline, its type is {others[0]:.40}")
        return _labeled(objects, height, width, class_names or sorted(_labels(objects)))
    except ValueError as error:
        raise DataError(str(error), file=file, remedy=remedy) from error


def detections_from_cvat(
    file: str | os.PathLike[str],
    *,
    image: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Detections:
    """Return the detections of one image from a file of CVAT, "CVAT for images 1.1", best first.

    It reads what ``Detections.to_cvat`` and ``foveate label`` write, and what CVAT exports: polygons,
    boxes, ellipses and masks. Shapes of one label and group are one object, with the box of its
    mask. An object without an attribute ``score`` has the score 1.

    Args:
        file: The ``.xml`` file, which may have many images.
        image: Name of the image; None if the file has no other one.
        class_names: Names of all classes, in order; by default the labels of the task.

    Raises:
        DataError: The file cannot be read or is not of CVAT, has no such image or several, or a
            shape has no area, lies outside of the image, or has an unknown label.
    """
    labels, elements = read_cvat(Path(file))
    chosen = [one for one in elements if image in (None, one.get("name"))]
    if len(chosen) != 1:
        names = ", ".join(str(one.get("name")) for one in elements[:3])
        what = f"{len(chosen)} of {len(elements)} images are meant by image={image!r:.60}"
        raise DataError(what, file=file, remedy=f"name one, such as {names:.200}")
    (element,) = chosen
    try:
        height, width = image_size(element.attrib, "height", "width")
        objects = cvat_objects(element, height, width)
        found = dict.fromkeys([*labels, *sorted(_labels(objects))])
        return _labeled(objects, height, width, class_names or tuple(found))
    except ValueError as error:
        remedy = "correct it in CVAT, and export it again"
        raise DataError(str(error), file=file, remedy=remedy) from error


def _labels(objects: Sequence[Mapping[str, Any]]) -> set[str]:
    return {one["category_id"] for one in objects}


def _labeled(
    objects: Sequence[Mapping[str, Any]], height: int, width: int, class_names: Sequence[str]
) -> Detections:
    """Return the detections of objects with labels as "category_id"; each must have a pixel."""
    if unknown := _labels(objects) - {*class_names}:
        expected = ", ".join(class_names)
        raise ValueError(
            f"the label {min(unknown)!r:.60} is unknown, expected one of {expected:.200}"
        )
    found = _detections(objects, height, width, {name: name for name in class_names})
    for one, area in zip(found, found.masks.areas(), strict=True):
        if not area:
            raise ValueError(f"a {one.name!r:.60} has no pixel in the image of {width} x {height}")
    return found


def _detections(
    entries: Sequence[Mapping[str, Any]], height: int, width: int, categories: Mapping[Any, str]
) -> Detections:
    labels = {category: label for label, category in enumerate(categories)}
    runs, found = [], []
    for position, entry in enumerate(entries):
        try:
            code = encode_segmentation(entry.get("segmentation"), height, width)
            score, label = number(entry.get("score", 1.0)), labels[entry["category_id"]]
            x, y, w, h = entry["bbox"] if "bbox" in entry else _box(code)
        except (KeyError, TypeError, ValueError) as error:
            what = f"entry {position} cannot be used ({type(error).__name__}: {error})"
            raise ValueError(what) from error
        runs.append(column_runs(decode_rle(code)))
        found.append((x, y, x + w, y + h, score, label))
    table = np.array(found, np.float64).reshape(-1, 6)
    order = np.argsort(-table[:, 4], kind="stable")
    table = table[order]
    return Detections(
        boxes=table[:, :4].astype(np.float32),
        scores=table[:, 4].astype(np.float32),
        labels=table[:, 5].astype(np.int64),
        class_names=tuple(categories.values()),
        masks=RunMasks([runs[i] for i in order.tolist()], height=height, width=width),
        proposals=order,
    )


def _box(code: dict[str, Any]) -> list[float]:
    """Return x, y, width and height of the box of a mask."""
    box: list[float] = coco_mask.toBbox(code).tolist()
    return box
