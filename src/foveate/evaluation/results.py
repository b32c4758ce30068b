# SPDX-License-Identifier: Apache-2.0
"""Results that another program wrote, in COCO's format, checked record by record."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np

from foveate.datasets.fields import box, field, integer, number, text
from foveate.datasets.segmentations import encode_segmentation
from foveate.errors import DataError
from foveate.evaluation.annotations import GroundTruth, Image
from foveate.evaluation.json_list import elements
from foveate.evaluation.matching import Region
from foveate.evaluation.measure import Task

_REMEDY = "write a JSON list of objects with image_id, score, category_id, and segmentation or bbox"
_TOLD_EVERY = 10_000  # records, of how far reading is


# The file is read twice. 1000 proposals in each of COCO's 5000 images are gigabytes of text, several
# times that as Python objects, in any order, and are needed an image at a time. The first time only
# the image of each record and its place in the file are kept; the second time the records of an image
# are read from their places.
@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of a file, of which only the places are held.

    Attributes:
        file: Where they are.
        regions: What they have: masks and boxes, or boxes alone.
        by_class: Whether they need a category.
        places: By the image's id, for each result its number, first byte, and the byte behind it.
        elsewhere: How many are left out, since the data set has no such image.
        categories: The data set's category by that of the results. Those of other categories, which
            can be neither right nor wrong, are left out too.
    """

    file: Path
    regions: tuple[Region, ...]
    by_class: bool
    places: Mapping[int, array[int]]
    elsewhere: int
    categories: Mapping[int, int]

    def of(self, image: Image) -> list[dict[str, Any]]:
        """Read the results of an image, in the order of the file, as `measure` takes them.

        Raises:
            DataError: A record is damaged; the text says which.
        """
        entries = []
        with self.file.open("rb") as stream:
            places = np.asarray(self.places.get(image.identifier, ())).reshape(-1, 3)
            for place, start, end in places.tolist():
                stream.seek(start)
                with _naming(place, self.file):
                    record = json.loads(stream.read(end - start))
                    if not self.by_class or int(record["category_id"]) in self.categories:
                        entries.append(self._entry(record, image))
        return entries

    def _entry(self, record: Mapping[str, Any], image: Image) -> dict[str, Any]:
        """Copy what is needed; a mask becomes a run-length code of the image's size."""
        entry: dict[str, Any] = {
            "image_id": image.identifier,
            "score": field(record, "score", number),
        }
        if self.by_class:
            entry["category_id"] = self.categories[field(record, "category_id", integer)]
        has_masks = "mask" in self.regions
        if ("segmentation" in record) != has_masks:
            raise ValueError("some results have a segmentation and some have none")
        if has_masks:
            entry["segmentation"] = encode_segmentation(
                record["segmentation"], image.height, image.width
            )
        if not has_masks or "bbox" in record:
            entry["bbox"] = field(record, "bbox", box)
        return entry


def read_results(
    file: Path,
    truth: GroundTruth,
    *,
    task: Task,
    progress: Callable[[int, int], None] | None = None,
) -> Results:
    """Find the results in a list of COCO results, or in what `foveate run --json` wrote.

    Args:
        file: JSON: a list of objects with "image_id", "score", and "segmentation" (run lengths or
            polygons) or "bbox" [x, y, w, h] in pixels of the image; all of them or none have a
            segmentation. For detections "category_id" too. Or an object with such a list as its
            "annotations", and "images" and "categories", whose names are those of the data set,
            while the ids may be others.
        truth: Says which images and categories there are.
        task: Proposals need no category; theirs is not looked at.
        progress: Called with the megabytes read and the megabytes in all.

    Raises:
        DataError: The file cannot be read, a record names no image (the text says which), none is
            of an image of the data set, or a category is not the data set's.
    """
    places: dict[int, array[int]] = defaultdict(lambda: array("q"))
    found: set[int] = set()
    beside: dict[str, Any] = {}
    total = 0
    has_masks = True
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            for total, (record, start, end) in enumerate(elements(stream, beside), 1):
                if total == 1:
                    has_masks = isinstance(record, dict) and "segmentation" in record
                with _naming(total - 1, file):
                    places[field(record, "image_id", integer)].extend((total - 1, start, end))
                    if task == "detections":
                        found.add(field(record, "category_id", integer))
                if progress is not None and total % _TOLD_EVERY == 0:
                    progress(end // 1_000_000, size // 1_000_000)
    except OSError as error:
        raise DataError("no results can be read", file=file, remedy=_REMEDY) from error
    except ValueError as error:
        raise DataError(
            f"result {total} cannot be read, {error}", file=file, remedy=_REMEDY
        ) from error
    images = same_images(beside.get("images"), truth, file)
    own = {images[i]: where for i, where in places.items() if i in images}
    if total and not own:
        raise DataError(
            f"none of {total} results is of an image of {truth.name}",
            file=file,
            remedy="name the data set that the results belong to",
        )
    return Results(
        file=file,
        regions=("mask", "box") if has_masks else ("box",),
        by_class=task == "detections",
        places=own,
        elsewhere=total - sum(map(len, own.values())) // 3,
        categories=same_categories(beside.get("categories"), truth, found, file),
    )


@contextlib.contextmanager
def _naming(number: int, file: Path) -> Iterator[None]:
    """Let an error name the result that is at fault."""
    try:
        yield
    except ValueError as error:
        raise DataError(
            f"result {number} cannot be used, {error}", file=file, remedy=_REMEDY
        ) from error


def same_images(images: Any, truth: GroundTruth, file: Path) -> Mapping[int, int]:
    """Give the data set's image by the results' id of it.

    Args:
        images: COCO's list of images, where the results have one: the image is that whose path
            has the same last part, and as many more parts as decide between several. None: ids are
            the data set's.
        truth: The data set.
        file: Of the results, for messages.

    Raises:
        DataError: An image has no id and name, or two are equally alike to an image.
    """
    if images is None:
        return {image.identifier: image.identifier for image in truth.images}
    candidates: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
    for image in truth.images:
        candidates[image.path.name].append((image.identifier, image.path.parts))
    claims: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for identifier, name in _named(images, "file_name", file).items():
        parts = Path(name.replace("\\", "/")).parts
        alike = [
            (sum(takewhile(bool, map(eq, parts[::-1], own[::-1]))), i)
            for i, own in candidates.get(parts[-1] if parts else "", ())
        ]
        best = max(alike, default=(0, 0))
        if [tail for tail, _ in alike].count(best[0]) == 1:
            claims[best[1]].append((best[0], identifier))
    found = {}
    for own, claimed in claims.items():
        tail, identifier = max(claimed)
        if [other for other, _ in claimed].count(tail) > 1:
            raise DataError(
                f"two images of the results may be image {own} of {truth.name}: "
                f"{' and '.join(str(i) for _, i in claimed)}",
                file=file,
                remedy="run on the images of the data set alone",
            )
        found[identifier] = own
    return found


def same_categories(
    categories: Any, truth: GroundTruth, used: set[int], file: Path
) -> Mapping[int, int]:
    """Give the data set's category by the results' id of it.

    Args:
        categories: COCO's list of categories, where the results have one: names are compared, and a
            category that the data set does not have is left out. None: ids are the data set's.
        truth: The data set.
        used: The ids that results have.
        file: Of the results, for messages.

    Raises:
        DataError: A category without a name is not the data set's, or none has a name in common.
    """
    own = truth.category_ids
    if categories is None:
        if strange := sorted(used - set(own.values())):
            known = ", ".join(f"{i} {name}" for name, i in own.items())
            raise DataError(
                f"results have the category ids {', '.join(map(str, strange[:9]))}, which are not "
                f"in {truth.name}, whose categories are {known}",
                file=file,
                remedy="write the data set's category ids, or evaluate with --proposals",
            )
        return {i: i for i in own.values()}
    names = _named(categories, "name", file)
    found = {i: own[name] for i, name in names.items() if name in own}
    if used and not found:
        raise DataError(
            f"no class in common: the results have {', '.join(names.values())}, the data set has "
            f"{', '.join(own)}",
            file=file,
            remedy="evaluate with --proposals, which regards no classes",
        )
    return found


def _named(records: Any, key: str, file: Path) -> dict[int, str]:
    try:
        if not isinstance(records, list):
            raise ValueError(f"they are {type(records).__name__} and no list")
        return {field(r, "id", integer): field(r, key, text) for r in records}
    except ValueError as error:
        raise DataError(
            f"the images or categories of the results cannot be used, {error}",
            file=file,
            remedy="write them as `foveate run --json` does",
        ) from error
