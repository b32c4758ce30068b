# SPDX-License-Identifier: Apache-2.0
"""The one reader of COCO annotations, for training and for evaluation."""

import contextlib
import math
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from foveate.arrays import BoolArray
from foveate.datasets.annotations import Annotations, Problems, Reason
from foveate.datasets.fields import box, field, flag, image_size, integer, short, size, text
from foveate.datasets.segmentations import SegmentationPacker
from foveate.errors import DataError

_NO_AREA = 1e-6  # square pixels; the area of three points on a line after rounding


def read_annotations(
    content: object, *, file: Path, strict: bool, masks: bool = True
) -> Annotations:
    """Check decoded annotations and arrange them as columns.

    Args:
        content: "images", "categories" and "annotations", in the form of COCO.
        file: File of the annotations, for messages.
        strict: Whether invalid records are refused, as evaluation does. If not, they are left out
            and counted.
        masks: Whether an object that has a box and no mask is invalid.

    Raises:
        DataError: One of the three lists is missing, or a record is invalid; the message names it.
    """
    reader = _Reader(file, strict, masks)
    lists = content if isinstance(content, Mapping) else {}
    for key in ("images", "categories", "annotations"):
        if not isinstance(lists.get(key), list):
            raise DataError(
                f"annotations that do not follow the COCO format: {key!r} is not a list in them",
                file=file,
                remedy="export the data set again in COCO format",
            )
    reader.read_images(lists["images"])
    reader.read_categories(lists["categories"], lists["annotations"])
    for position, annotation in enumerate(lists["annotations"]):
        reader.read_annotation(position, annotation)
    return reader.finish()


# If an invalid record makes others ambiguous, the file is refused: a missing list, an id of two
# images or categories, a name of two categories. Otherwise training leaves the record out and
# counts it, since one record among a million must not end a week of work; evaluation refuses it,
# since figures on other ground truth are not comparable. Objects without area or outside their
# image are the exception: pycocotools counts them as objects that are never found (COCO has some),
# so evaluation keeps and counts them. Only pycocotools uses the ids of annotations: 0 is its "no
# match", and it ignores the first of two equal ones. Evaluation refuses equal ids; training reads a
# record that is listed twice, with the same id, image, category and box, only once.
class _Reader:
    def __init__(self, file: Path, strict: bool, masks: bool) -> None:
        self.file, self.strict, self.masks = file, strict, masks
        self.problems = Problems()
        self.packer = SegmentationPacker()
        self.files: list[str] = []
        self.names: set[str] = set()
        self.sizes: list[tuple[int, int]] = []
        self.images: dict[int, int] = {}
        self.categories: tuple[tuple[int, str], ...] = ()
        self.labels: dict[int, int] = {}
        self.columns = {name: array("q") for name in ("ids", "images", "labels", "crowds")}
        self.areas, self.boxes = array("d"), array("d")

    def refuse(self, what: str) -> DataError:
        return DataError(what, file=self.file, remedy="correct it, or export the data set again")

    def reject(self, reason: Reason, record: str, found: str = "") -> None:
        if self.strict:
            raise self.refuse(f"{record} cannot be used, because {reason}{found and f': {found}'}")
        self.problems.add(reason, record)

    def read_images(self, images: list[Any]) -> None:
        for position, record in enumerate(images):
            try:
                identifier = field(record, "id", integer)
                name = field(record, "file_name", text)
                size = image_size(record, "height", "width")
            except ValueError as error:
                self.reject(Reason.MALFORMED, _name("image", record, position), str(error))
                continue
            if identifier in self.images:
                first = self.files[self.images[identifier]]
                raise self.refuse(f"two images have the id {identifier}: {first} and {name}")
            if name in self.names:
                self.reject(Reason.REPEATED, f"image {identifier}, {name}")
                continue
            self.names.add(name)
            self.images[identifier] = len(self.files)
            self.files.append(name)
            self.sizes.append(size)

    def read_categories(self, categories: list[Any], annotations: list[Any]) -> None:
        names: dict[int, str] = {}
        parents: dict[int, Any] = {}
        for position, category in enumerate(categories):
            try:
                identifier, name = field(category, "id", integer), field(category, "name", text)
                name.encode()
            except ValueError as error:
                record = _name("category", category, position)
                raise self.refuse(f"{record} has no id and name: {error}") from error
            if identifier in names:
                raise self.refuse(f"two categories have the id {identifier}, one is {name!r}")
            names[identifier], parents[identifier] = name, category.get("supercategory")
        _drop_placeholders(names, parents, annotations)
        for name, count in Counter(names.values()).items():
            if count > 1:
                ids = " and ".join(str(i) for i, other in names.items() if other == name)
                raise self.refuse(f"two categories have the name {name!r}: {ids}")
        self.categories = tuple(sorted(names.items()))
        self.labels = {i: label for label, (i, _) in enumerate(self.categories)}

    def read_annotation(self, position: int, annotation: Any) -> None:
        record = _name("annotation", annotation, position)
        try:
            identifier = field(annotation, "id", integer)
            image = self.images.get(field(annotation, "image_id", integer))
            label = self.labels.get(field(annotation, "category_id", integer))
            crowd = "iscrowd" in annotation and field(annotation, "iscrowd", flag)
            around, area = [math.nan] * 4, 0.0
            if annotation.get("bbox") not in (None, []):
                around = field(annotation, "bbox", box)
            if annotation.get("area") is not None:
                area = field(annotation, "area", size)
        except ValueError as error:
            return self.reject(Reason.MALFORMED, record, str(error))
        if image is None:
            return self.reject(Reason.UNKNOWN_IMAGE, record)
        if label is None:
            return self.reject(Reason.UNKNOWN_CATEGORY, record)
        segmentation = annotation.get("segmentation")
        if segmentation in (None, [], {}) and min(around[2:]) > 0:
            if self.masks:
                return self.reject(Reason.NO_MASK, record)
            segmentation = None
        elif segmentation is None:
            segmentation = []
        try:
            self.packer.add(segmentation, *self.sizes[image])
        except ValueError as error:
            return self.reject(Reason.BAD_MASK, record, str(error))
        for name, value in zip(self.columns, (identifier, image, label, int(crowd)), strict=True):
            self.columns[name].append(value)
        self.boxes.extend(around)
        self.areas.append(area)
        return None

    def finish(self) -> Annotations:
        """Run the checks that are fast only for all objects at once, and order by image."""
        columns = {name: np.array(values, np.int64) for name, values in self.columns.items()}
        table = Annotations(
            image_ids=np.array(list(self.images), np.int64),
            files=tuple(self.files),
            sizes=np.array(self.sizes, np.int32).reshape(-1, 2),
            categories=self.categories,
            ids=columns["ids"],
            images=columns["images"].astype(np.int32),
            starts=np.zeros(len(self.files) + 1, np.int64),
            labels=columns["labels"].astype(np.int32),
            crowds=columns["crowds"].astype(bool),
            areas=np.array(self.areas, np.float64),
            boxes=np.array(self.boxes, np.float64).reshape(-1, 4),
            segmentations=self.packer.pack(),
            rows=np.arange(len(columns["ids"])),
            problems=self.problems,
        )
        good = np.ones(len(table), bool)
        self._check_ids(table, good)
        self._check_shapes(table, good)
        self._complete(table, good)
        return table.select(np.flatnonzero(good))

    def _check_ids(self, table: Annotations, good: BoolArray) -> None:
        values, counts = np.unique(table.ids, return_counts=True)
        seen: set[tuple[float, ...]] = set()
        for row in np.flatnonzero(np.isin(table.ids, values[counts > 1])).tolist():
            if self.strict:
                raise self.refuse(f"two annotations have the id {table.ids[row]}")
            box = np.nan_to_num(table.boxes[row]).tolist()
            key = (table.ids[row], table.images[row], table.labels[row], *box)
            if key in seen:
                good[row] = False
                self.problems.add(Reason.REPEATED, table.describe(row))
            seen.add(key)

    def _check_shapes(self, table: Annotations, good: BoolArray) -> None:
        shapes, height, width = table.segmentations, *table.sizes[table.images].T
        areas, extents, bare = shapes.areas(), shapes.extents(), ~shapes.masked
        extents[bare] = table.boxes[bare]
        extents[bare, 2:] += extents[bare, :2]
        areas[bare] = table.boxes[bare, 2] * table.boxes[bare, 3]
        empty, (x1, y1, x2, y2) = areas <= _NO_AREA, extents.T
        shaped = bare | (np.diff(shapes.object_starts) > 0)
        outside = shaped & ((x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height))
        for reason, wrong in ((Reason.EMPTY_MASK, empty), (Reason.OUTSIDE, outside & ~empty)):
            for row in np.flatnonzero(wrong & good).tolist():
                self.problems.add(reason, table.describe(row))
        if not self.strict:
            good &= ~(empty | outside)

    def _complete(self, table: Annotations, good: BoolArray) -> None:
        """Fill in box and area from the mask if the annotation has none."""
        missing, masked = np.isnan(table.boxes[:, 0]), table.segmentations.masked
        for row in np.flatnonzero(good & (missing | (table.areas == 0))).tolist():
            if not masked[row]:
                table.areas[row] = table.boxes[row, 2] * table.boxes[row, 3]
                continue
            rle = table.rle(row)
            if missing[row]:
                table.boxes[row] = coco_mask.toBbox(rle)
            if table.areas[row] == 0:
                table.areas[row] = coco_mask.area(rle)


def _drop_placeholders(
    names: dict[int, str], parents: Mapping[int, Any], annotations: list[Any]
) -> None:
    """Remove categories without objects that tools write as placeholders."""
    # Roboflow lists a root, which is the supercategory of the others and may have the name of one
    # of them; labelme's script lists the background.
    count = Counter(names.values())
    above = {parent for parent in parents.values() if isinstance(parent, str)}
    roots = {i for i, name in names.items() if parents[i] == "none" and name in above}
    meaningless = roots | {i for i, name in names.items() if name == "_background_"}
    doubtful = meaningless | {i for i, name in names.items() if count[name] > 1}
    for annotation in annotations if doubtful else ():
        with contextlib.suppress(AttributeError, ValueError):
            doubtful.discard(integer(annotation.get("category_id")))
    for identifier in sorted(doubtful):
        if identifier in meaningless or count[names[identifier]] > 1:
            count[names.pop(identifier)] -= 1


def _name(kind: str, record: Any, position: int) -> str:
    """Name a record by its ids, or by its position in the file if it has none."""
    if not isinstance(record, Mapping) or "id" not in record:
        return f"{kind} number {position + 1}"
    image = f" of image {short(record['image_id'])}" if "image_id" in record else ""
    return f"{kind} {short(record['id'])}{image}"
