# SPDX-License-Identifier: Apache-2.0
"""Results that another program wrote, in COCO's format, checked record by record."""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
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
from foveate.progress import Progress, no_progress
from foveate.system.regular_files import open_regular

_REMEDY = "write a JSON list of objects with image_id, score, category_id, and segmentation or bbox"
_PROGRESS_EVERY = 10_000  # records between two reports


# The file is read twice. 1000 proposals in each of COCO's 5000 images are gigabytes of text,
# several times that as Python objects, in any order, and are needed one image at a time. The first
# pass keeps only the image of each record and its place in the file; the second one reads the
# records of an image from their places.
@dataclass(frozen=True, kw_only=True)
class Results:
    """Results in a file, of which only the places are in memory.

    Args:
        file: File of the results.
        regions: Masks and boxes, or boxes alone.
        by_class: Whether results need a category.
        places: Number, first byte and end of each result, by the id of its image.
        elsewhere: Number of results that are left out, since the data set has no such image.
        categories: Category of the data set by that of the results. Results of other categories,
            which are neither right nor wrong, are left out too.
    """

    file: Path
    regions: tuple[Region, ...]
    by_class: bool
    places: Mapping[int, array[int]]
    elsewhere: int
    categories: Mapping[int, int]

    def of(self, image: Image) -> list[dict[str, Any]]:
        """Read the results of an image, in the order of the file, for ``Accumulator.add``.

        Raises:
            DataError: A record is damaged; the message names it.
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
        """Copy the needed fields; a mask becomes a run-length code of the image's size."""
        score = field(record, "score", number)
        entry: dict[str, Any] = {"image_id": image.identifier, "score": score}
        if self.by_class:
            entry["category_id"] = self.categories[field(record, "category_id", integer)]
        has_masks = "mask" in self.regions
        if ("segmentation" in record) != has_masks:
            raise ValueError("some results have a segmentation and some have none")
        if has_masks:
            code = encode_segmentation(record["segmentation"], image.height, image.width)
            entry["segmentation"] = code
        if not has_masks or "bbox" in record:
            entry["bbox"] = field(record, "bbox", box)
        return entry


def read_results(
    file: Path, truth: GroundTruth, *, task: Task, progress: Progress = no_progress
) -> Results:
    """Find the results in a list of COCO results, or in a file of ``foveate run --json``.

    Args:
        file: JSON: a list of objects with "image_id", "score", and "segmentation" (run lengths or
            polygons) or "bbox" [x, y, w, h] in pixels of the image; all of them or none have a
            segmentation. For detections "category_id" too. Or an object with such a list as its
            "annotations", and "images" and "categories", whose names are those of the data set,
            while the ids may be others.
        truth: Ground truth with the images and categories.
        task: Task; for proposals, categories are ignored.
        progress: Called with the number of megabytes.

    Raises:
        DataError: The file cannot be read, a record names no image (the message gives it), none is
            of an image of the data set, or a category is not the data set's.
    """
    places: dict[int, array[int]] = defaultdict(lambda: array("q"))
    found: set[int] = set()
    beside: dict[str, Any] = {}
    total = 0
    has_masks = True
    try:
        with open_regular(file) as stream:  # a pipe could not be read twice
            size = os.fstat(stream.fileno()).st_size
            for total, (record, start, end) in enumerate(elements(stream, beside), 1):
                if total == 1:
                    has_masks = isinstance(record, dict) and "segmentation" in record
                with _naming(total - 1, file):
                    places[field(record, "image_id", integer)].extend((total - 1, start, end))
                    if task == "detections":
                        found.add(field(record, "category_id", integer))
                if total % _PROGRESS_EVERY == 0:
                    progress("Reading, MB", end // 1_000_000, size // 1_000_000)
    except OSError as error:
        what = f"the results cannot be read ({error.strerror or error})"
        remedy = "pass a file of results that exists and may be read"
        raise DataError(what, file=file, remedy=remedy) from error
    except ValueError as error:
        what = f"result {total} cannot be read, {error}"
        raise DataError(what, file=file, remedy=_REMEDY) from error
    images = same_images(beside.get("images"), truth, file)
    own = {images[i]: where for i, where in places.items() if i in images}
    if total and not own:
        raise DataError(
            f"none of {total} results belongs to an image of {truth.name}",
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
    """Add the number of the invalid result to an error."""
    try:
        yield
    except ValueError as error:
        what = f"result {number} cannot be used, {error}"
        raise DataError(what, file=file, remedy=_REMEDY) from error


def same_images(images: Any, truth: GroundTruth, file: Path) -> Mapping[int, int]:
    """Return the image of the data set by its id in the results.

    If the results have COCO's list of images, it is the image whose path has the same last part;
    further parts decide between several. If not, ids are those of the data set.

    Raises:
        DataError: An image has no id and name, or two are equally similar to an image.
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
    """Return the category of the data set by its id in the results; ``used`` are the ids in use.

    If the results have COCO's list of categories, names are compared, and a category that the data
    set does not have is left out. If not, ids are those of the data set.

    Raises:
        DataError: A category without a name is not in the data set, or no name is in common.
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
            remedy="evaluate with --proposals, which ignores classes",
        )
    return found


def _named(records: Any, key: str, file: Path) -> dict[int, str]:
    try:
        if not isinstance(records, list):
            raise ValueError(f"they are {type(records).__name__} and not a list")
        return {field(r, "id", integer): field(r, key, text) for r in records}
    except ValueError as error:
        raise DataError(
            f"the images or categories of the results cannot be used, {error}",
            file=file,
            remedy="write them as `foveate run --json` does",
        ) from error
