# SPDX-License-Identifier: Apache-2.0
"""What is wrong with single records of a data set, and how often."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

_EXAMPLES = 3


class Reason(StrEnum):
    """Why a record cannot be used; the value completes "left out, because ..."."""

    MALFORMED = "a field is missing or of another type"
    UNKNOWN_IMAGE = "its image is not listed"
    UNKNOWN_CATEGORY = "its category is not listed"
    REPEATED = "it is listed twice"
    BAD_MASK = "its segmentation is neither a polygon nor a run-length code of the image's size"
    NO_MASK = "it has a box and no mask"
    EMPTY_MASK = "its area is zero"
    OUTSIDE = "it lies outside its image"
    NO_IMAGE = "the image cannot be read at the annotated size"


class Problems:
    """Counts of what was found wrong, with the first few records of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[Reason] = Counter()
        self._examples: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, record: str) -> None:
        """Count a record, given in words: "annotation 7 of image 3"."""
        self.counts[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES and record not in examples:
            examples.append(record)

    def __len__(self) -> int:
        return self.counts.total()

    def report(self) -> str:
        """Say in a line what was found: by reason, the number and the first few records."""
        parts = [
            f"{count} because {reason} ({', '.join(self._examples[reason])}"
            f"{', ...' if count > len(self._examples[reason]) else ''})"
            for reason, count in self.counts.most_common()
        ]
        return "; ".join(parts) or "nothing was found wrong"
