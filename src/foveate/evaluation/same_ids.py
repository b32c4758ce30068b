# SPDX-License-Identifier: Apache-2.0
"""The data set's ids of what results are about: the same ids, or those of the same names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any

from foveate.datasets.fields import field, integer, text
from foveate.errors import DataError
from foveate.evaluation.annotations import GroundTruth


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
