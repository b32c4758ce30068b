# SPDX-License-Identifier: Apache-2.0
"""Whether a bundle has the classes of a data set that it is measured on."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from foveate.cli._console import print_line

if TYPE_CHECKING:
    from foveate.evaluation import GroundTruth

_MOST_NAMES = 5


def print_lacking_classes(truth: GroundTruth, class_names: Collection[str]) -> None:
    """Print which classes with objects a bundle does not have, as they lower its precision."""
    present = truth.classes_with_objects()
    lacking = [name for name in present if name not in class_names]
    if lacking and truth.category_ids.keys() & {*class_names}:  # otherwise no precision is measured
        names = ", ".join(lacking[:_MOST_NAMES]) + (", ..." if lacking[_MOST_NAMES:] else "")
        print_line(
            f"the bundle lacks {len(lacking)} of the {len(present)} classes with objects ({names}), "
            "and the average precision of each counts as 0: give the objects the bundle's classes, "
            "or measure proposals, which have none",
            to_stderr=True,
        )
