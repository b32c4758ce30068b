# SPDX-License-Identifier: Apache-2.0
"""The ground truth of a COCO-format data set, checked, in the form that pycocotools reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foveate.arrays import Int64Array
from foveate.datasets import Annotations, find_parts, find_source, read_annotations
from foveate.datasets.layouts import locate
from foveate.errors import DataError
from foveate.plain_text import counted


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of a data set.

    Args:
        identifier: Id of the image in the annotations.
        path: File of the image.
        height: Height in pixels, as annotated.
        width: Width in pixels, as annotated.
    """

    identifier: int
    path: Path
    height: int
    width: int


class GroundTruth:
    """Images, objects, categories, and the families by which objects are resampled.

    Args:
        content: "images", "categories" and "annotations", in the form of COCO.
        images: Directory of the images, or several that they may be in.
        name: Name of the data set, for reports.
        file: File of the annotations, for messages.
        limit: Number of images to keep, the first by their id; by default all.

    Attributes:
        name: The argument.
        images: Images in the order of their ids.
        category_ids: Ids by class name.
        unit: "family" or "object": the unit of resampling.
        families: Number of different families.
        unmasked: Number of objects that have a box and no mask.
        problems: Objects without area or outside their image, which nothing can find.
        files: Files that were read: the annotations, and the images whether they exist or not.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        *,
        images: Path | Sequence[Path],
        name: str,
        file: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self.name = name
        places = [images] if isinstance(images, Path) else images
        table = read_annotations(content, file=file or places[0], strict=True, masks=False)
        by_id = np.argsort(table.image_ids)
        if limit is not None:
            kept = np.sort(by_id[:limit])
            table, by_id = table.of_images(kept), np.argsort(table.image_ids[kept])
        self.problems = table.problems
        place, files = locate(table.files, places)
        table = replace(table, files=tuple(f or n for f, n in zip(files, table.files, strict=True)))
        self.images = tuple(_image(table, index, place) for index in by_id.tolist())
        self.files = (*_files_of(file), *(image.path for image in self.images))
        self.category_ids = {name: identifier for identifier, name in table.categories}
        families = [annotation.get("family") for annotation in content["annotations"]]
        self.unmasked = int((~table.masked).sum())
        if table.ids.min(initial=1) < 1:  # 0 means no object to pycocotools; some tools start there
            table = replace(table, ids=table.rows + 1)
        # In the order of the file, as pycocotools sees them.
        order = np.argsort(table.rows).tolist()
        self.objects = [_object(table, row, families) for row in order]
        self.unit, self._family = _families(self.objects)
        self.families = len(set(self._family.values()))

    @classmethod
    def open(
        cls, directory: str | Path, *, annotations: Path | None = None, limit: int | None = None
    ) -> GroundTruth:
        """Read the validation part of a data set, or its test part, or its only one.

        Args:
            directory: Data set, or a part of one, in any of ``foveate.datasets.LAYOUTS``; with
                ``annotations``, the directory of the images.
            annotations: File of the annotations, if it is not in ``directory``.
            limit: Number of images to keep, the first by their id; by default all.

        Raises:
            DataError: The data set cannot be read, a record is invalid (see ``read_annotations``),
                or no object is evaluated.
        """
        folder = Path(directory)
        if annotations is not None:
            source = find_source(folder, annotations)
        else:
            parts = find_parts(folder)
            source = next(parts[part] for part in ("", "val", "test", "train") if part in parts)
        content, file = source.read(), source.file
        truth = cls(content, images=source.places, name=source.name, file=file, limit=limit)
        if all(o["iscrowd"] for o in truth.objects):
            images = counted(len(truth.images), "image has", "images have")
            raise DataError(
                f"no object is evaluated: {images} {'only crowds' if truth.objects else 'no objects'}",
                file=file,
                remedy='annotate objects, with an "iscrowd" of 0',
            )
        return truth

    def require_images(self) -> None:
        """Check that the file of every image exists, before hours are spent on a part of them.

        Raises:
            DataError: Some are missing; the message names the first.
        """
        missing = [image for image in self.images if not image.path.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {counted(len(self.images), 'image is', 'images are')} missing, "
                f"the first is image {missing[0].identifier}",
                file=missing[0].path,
                remedy="put them there, or remove them from the annotations",
            )

    def classes_with_objects(self) -> list[str]:
        """Return the classes of the objects, without crowds, in alphabetical order."""
        present = {o["category_id"] for o in self.objects if not o["iscrowd"]}
        return sorted(
            name for name, identifier in self.category_ids.items() if identifier in present
        )

    def family_of(self, annotation_ids: Int64Array) -> Int64Array:
        """Return the family indices of annotation ids; -1 for an id of 0, which means none."""
        flat = [self._family[int(i)] if i else -1 for i in annotation_ids.ravel()]
        return np.array(flat, np.int64).reshape(annotation_ids.shape)


def _files_of(annotations: Path | None) -> list[Path]:
    """Return the files of annotations, of which labelme has many in a directory."""
    if annotations is None:
        return []
    return sorted(annotations.rglob("*.json")) if annotations.is_dir() else [annotations]


def _image(table: Annotations, index: int, directory: Path) -> Image:
    height, width = table.sizes[index].tolist()
    identifier, path = int(table.image_ids[index]), directory / table.files[index]
    return Image(identifier=identifier, path=path, height=height, width=width)


def _object(table: Annotations, row: int, families: Sequence[Any]) -> dict[str, Any]:
    """Return an annotation as pycocotools reads it, with an RLE mask and nothing missing."""
    return {
        "id": int(table.ids[row]),
        "image_id": int(table.image_ids[table.images[row]]),
        "category_id": table.categories[int(table.labels[row])][0],
        "segmentation": table.rle(row) if table.masked[row] else None,
        "bbox": table.boxes[row].tolist(),
        "area": float(table.areas[row]),
        "iscrowd": int(table.crowds[row]),
        "family": families[int(table.rows[row])],
    }


def _families(objects: list[dict[str, Any]]) -> tuple[str, dict[int, int]]:
    """Return the unit of resampling, and the family index of each annotation id."""
    if not objects or any(o["family"] is None for o in objects):
        return "object", {o["id"]: i for i, o in enumerate(objects)}
    names = {name: i for i, name in enumerate(sorted({str(o["family"]) for o in objects}))}
    return "family", {o["id"]: names[str(o["family"])] for o in objects}
