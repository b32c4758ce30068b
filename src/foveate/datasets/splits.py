# SPDX-License-Identifier: Apache-2.0
"""The parts of a data set that a training uses, and the images in them that can be used."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from foveate.arrays import BoolArray
from foveate.datasets.coco import CocoDataset
from foveate.datasets.layouts import find_parts
from foveate.errors import DataError
from foveate.progress import Progress
from foveate.system.executors import submit

_log = logging.getLogger(__name__)
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The training images of a data set, and the held-out ones.

    Args:
        train: Training images, or all of a data set in one part.
        validation: Other images with the same classes; None if the data set has none.
    """

    train: CocoDataset
    validation: CocoDataset | None


def find_splits(folder: Path, *, masks: bool = True) -> Splits:
    """Open a data set in any of ``LAYOUTS``; a part for testing is ignored.

    Args:
        folder: Directory of the data set, or its only file.
        masks: See ``CocoDataset``.

    Raises:
        DataError: It is in none of the layouts, cannot be read, has no part to train with, or has
            objects of other classes in its validation part.
    """
    parts = find_parts(folder)
    source = parts.get("train") or parts.get("")
    if source is None:
        raise DataError(
            f"the data set has no part to train with, only {', '.join(parts)}",
            file=folder,
            remedy="name the part itself as the data set if you want to train with it",
        )
    train = CocoDataset(source, masks=masks)
    validation = CocoDataset(parts["val"], masks=masks) if "val" in parts else None
    if validation is not None:
        validation = validation.with_classes(train.class_names)
    return Splits(train=train, validation=validation)


def without_broken_images(dataset: CocoDataset, task: str, progress: Progress) -> CocoDataset:
    """Decode every image, and leave out those that are broken or of another size than annotated.

    ``progress`` is called with ``task`` and the number of decoded images.

    Raises:
        DataError: All images are broken.
    """

    def broken(index: int) -> str | None:
        try:
            dataset.image(index)
        except DataError as error:
            return str(error)
        return None

    errors = {}
    with ThreadPoolExecutor(2) as pool:
        running = [submit(pool, partial(broken, index)) for index in range(len(dataset))]
        for index, one in enumerate(running):
            if (error := one.result()) is not None:
                errors[index] = error
            progress(task, index + 1, len(dataset))
    if not errors:
        return dataset
    named = "; ".join(list(errors.values())[:_EXAMPLES])
    if len(errors) == len(dataset):
        raise DataError(
            f"none of {len(dataset)} images can be used: {named}",
            file=dataset.file,
            remedy="copy the images again, or annotate those that are there",
        )
    text = "%d of %d images are left out because they cannot be used: %s%s"
    more = "; ..." if len(errors) > _EXAMPLES else ""
    _log.warning(text, len(errors), len(dataset), named, more)
    return dataset.of_images(np.setdiff1d(np.arange(len(dataset)), list(errors)))


def require_classes(datasets: Sequence[CocoDataset]) -> None:
    """Check that every class has an object, crowds aside, in one of several data sets.

    Args:
        datasets: Data sets with the same classes.

    Raises:
        DataError: A class has none; the message names it.
    """
    tables = [dataset.annotations for dataset in datasets]
    found = np.concatenate([table.labels[~table.crowds] for table in tables])
    names = datasets[0].class_names
    lacking = [name for label, name in enumerate(names) if label not in found]
    if lacking:
        raise DataError(
            f"no training image has an object of the classes {', '.join(lacking)}",
            file=datasets[0].file,
            remedy="annotate some, add a data set that has some, or remove the classes",
        )


def no_objects(dataset: CocoDataset, reasons: Mapping[str, BoolArray]) -> DataError:
    """Return the error of a data set in which no object can be learned from.

    ``reasons`` are (N,) bool, whether each object has a fault, by the words for it.
    """
    found = ", ".join(f"{which.sum()} {fault}" for fault, which in reasons.items() if which.any())
    return DataError(
        f"there is no object to learn from: of {len(dataset.annotations)} annotated objects "
        f"{found or 'there is none'} (left out before: {dataset.problems.report()})",
        file=dataset.file,
        remedy="annotate single objects with polygons or masks",
    )
