# SPDX-License-Identifier: Apache-2.0
"""The parts of a data set that a training uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foveate.datasets.coco import CocoDataset
from foveate.datasets.layouts import find_parts
from foveate.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What to train with, and what was held out.

    Attributes:
        train: The training images, or all of a data set in one part.
        validation: Other images with the same classes; None if the data set has none.
        layout: Name of the layout in `LAYOUTS`.
    """

    train: CocoDataset
    validation: CocoDataset | None
    layout: str


def find_splits(folder: Path, *, masks: bool = True) -> Splits:
    """Open a data set in any of `LAYOUTS`; a part for testing is left alone.

    Args:
        folder: Of the data set, or its only file.
        masks: See `CocoDataset`.

    Raises:
        DataError: It is in none of them, cannot be read, has no part to train with, or objects of
            other classes in its validation part.
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
    return Splits(train=train, validation=validation, layout=source.layout)
