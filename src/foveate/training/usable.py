# SPDX-License-Identifier: Apache-2.0
"""What of a data set can be trained on, found out before the work begins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from foveate.datasets import CocoDataset
from foveate.errors import DataError
from foveate.training.mini.views import shown_sides
from foveate.training.mini.window_cache import CacheOptions

_log = logging.getLogger(__name__)
_EXAMPLES = 3


def without_broken_images(
    dataset: CocoDataset, progress: Callable[[int, int], None]
) -> CocoDataset:
    """Decode every image, and leave out those that are broken or of another size than annotated.

    Args:
        dataset: what is to be trained on.
        progress: called with images done and their number.

    Raises:
        DataError: all of them are broken.
    """

    def broken(index: int) -> str | None:
        try:
            dataset.image(index)
        except DataError as error:
            return str(error)
        return None

    errors = {}
    with ThreadPoolExecutor(2) as pool:
        for index, error in enumerate(pool.map(broken, range(len(dataset)))):
            if error is not None:
                errors[index] = error
            progress(index + 1, len(dataset))
    if not errors:
        return dataset
    named = "; ".join(list(errors.values())[:_EXAMPLES])
    if len(errors) == len(dataset):
        raise DataError(
            f"none of {len(dataset)} images can be used: {named}",
            file=dataset.file,
            remedy="copy the images again, or annotate those that are there",
        )
    more = "; ..." if len(errors) > _EXAMPLES else ""
    _log.warning(
        "%d of %d images are left out because they cannot be used: %s%s",
        len(errors),
        len(dataset),
        named,
        more,
    )
    return dataset.of_images(np.setdiff1d(np.arange(len(dataset)), list(errors)))


def require_objects(dataset: CocoDataset, options: CacheOptions) -> None:
    """Check that there is an object that `mini` can learn from.

    Raises:
        DataError: all are crowds, too small or too large; the text has their numbers.
    """
    table = dataset.annotations
    least, most = shown_sides(options.rules)
    sides = table.boxes[:, 2:].max(axis=1, initial=0.0)
    small, large = ~table.crowds & (sides < least), ~table.crowds & (sides > most)
    if (table.crowds | small | large).all():
        reasons = {
            "are crowds": int(table.crowds.sum()),
            f"are smaller than {least:.0f} pixels": int(small.sum()),
            f"are larger than {most:.0f} pixels": int(large.sum()),
        }
        raise no_objects(dataset, reasons)


def no_objects(dataset: CocoDataset, reasons: Mapping[str, int]) -> DataError:
    """Make the error of a data set in which no object can be learnt from.

    Args:
        dataset: its records that were left out are counted in the text.
        reasons: numbers of objects, by what is wrong with them.
    """
    found = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    return DataError(
        f"there is no object to learn from: of {len(dataset.annotations)} annotated objects "
        f"{found or 'none is there'} (left out before: {dataset.problems.report()})",
        file=dataset.file,
        remedy="annotate single objects with polygons or masks",
    )
