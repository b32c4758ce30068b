# SPDX-License-Identifier: Apache-2.0
"""The ground truth of a COCO-format data set, checked, as pycocotools wants it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from foveate.errors import DataError
from foveate.training.evaluation.coco import build_index

__all__ = ["GroundTruth", "Picture"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a data set.

    Attributes:
        identifier: The id of the image in the annotations.
        path: Its file.
        height: In pixels, as annotated.
        width: In pixels, as annotated.
    """

    identifier: int
    path: Path
    height: int
    width: int


class GroundTruth:
    """Pictures, objects, categories, and the families by which objects are resampled.

    NOTE: Why families? Several objects of a composed data set come from one cut-out, its mirror
    or its poses. They succeed and fail together, so that resampling single objects would call a
    figure far more certain than it is. Where annotations name no "family", each object is one of
    its own, and `unit` says so.

    Attributes:
        name: Of the data set, for reports.
        pictures: In the order of their ids.
        category_ids: By class name.
        unit: "family" or "object": what is resampled.
        families: Number of different families.
    """

    def __init__(self, content: Mapping[str, Any], *, pictures: Path, name: str) -> None:
        self.name = name
        try:
            self.pictures = _pictures(content["images"], pictures)
            self.category_ids = {str(c["name"]): int(c["id"]) for c in content["categories"]}
            sizes = {p.identifier: (p.height, p.width) for p in self.pictures}
            objects = [
                _normalise(annotation, sizes[int(annotation["image_id"])])
                for annotation in content["annotations"]
                if int(annotation["image_id"]) in sizes
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"annotations that do not follow the COCO format ({error!r})",
                file=pictures,
                remedy="compose or convert the data set again",
            ) from error
        self.unit, self._family = _families(objects)
        self.families = len(set(self._family.values()))
        self.objects = objects
        self.coco = build_index(
            [{"id": p.identifier, "height": p.height, "width": p.width} for p in self.pictures],
            [{"id": i, "name": n} for n, i in self.category_ids.items()],
            objects,
        )

    @classmethod
    def open(cls, directory: str | Path, *, limit: int | None = None) -> GroundTruth:
        """Read `annotations.json` of a split, or of the split `validation` in a data set.

        Args:
            directory: Holds `annotations.json` and `pictures/`, or `validation/` which does.
            limit: Keep only so many pictures, the first by their id.

        Raises:
            DataError: Nothing readable is there, or an id is 0, which pycocotools miscounts.
        """
        split = Path(directory)
        if not (split / "annotations.json").is_file() and (split / "validation").is_dir():
            split = split / "validation"
        file = split / "annotations.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                "no COCO annotations can be read",
                file=file,
                remedy="make a data set by `foveate compose`, or name the folder of one",
            ) from error
        if limit is not None:
            images = sorted(content["images"], key=lambda image: int(image["id"]))
            content = {**content, "images": images[:limit]}
        return cls(content, pictures=split / "pictures", name=str(split))

    def family_of(self, annotation_ids: NDArray[np.float64]) -> NDArray[np.int64]:
        """Family indices of annotation ids; an id of 0, which means none, gives -1."""
        flat = [self._family[int(i)] if i else -1 for i in annotation_ids.ravel()]
        return np.array(flat, np.int64).reshape(annotation_ids.shape)


def _pictures(images: list[Mapping[str, Any]], directory: Path) -> tuple[Picture, ...]:
    found = [
        Picture(
            identifier=int(image["id"]),
            path=directory / str(image["file_name"]),
            height=int(image["height"]),
            width=int(image["width"]),
        )
        for image in images
    ]
    return tuple(sorted(found, key=lambda picture: picture.identifier))


def _normalise(annotation: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Copy an annotation, with an RLE mask and nothing missing that pycocotools reads."""
    if int(annotation["id"]) < 1:
        # pycocotools stores the id of a match, and reads 0 as "no match".
        raise ValueError("an annotation has the id 0, ids must start at 1")
    rle = _as_rle(annotation["segmentation"], size)
    return {
        "id": int(annotation["id"]),
        "image_id": int(annotation["image_id"]),
        "category_id": int(annotation["category_id"]),
        "segmentation": rle,
        "bbox": [float(v) for v in annotation.get("bbox") or coco_mask.toBbox(rle)],
        "area": float(annotation.get("area") or coco_mask.area(rle)),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "family": annotation.get("family"),
    }


def _as_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    if isinstance(segmentation, list):
        merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        return merged
    if isinstance(segmentation["counts"], list):
        packed: dict[str, Any] = coco_mask.frPyObjects(segmentation, height, width)
        return packed
    return dict(segmentation)


def _families(objects: list[dict[str, Any]]) -> tuple[str, dict[int, int]]:
    """What is resampled, and the family index of each annotation id."""
    if not objects or any(o["family"] is None for o in objects):
        return "object", {o["id"]: i for i, o in enumerate(objects)}
    names = {name: i for i, name in enumerate(sorted({str(o["family"]) for o in objects}))}
    return "family", {o["id"]: names[str(o["family"])] for o in objects}
