# SPDX-License-Identifier: Apache-2.0
"""The choice of the objects of an image that are worth an annotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from foveate.errors import OptionError
from foveate.plain_text import printable
from foveate.results.detections import Detections, Proposals
from foveate.results.labeled import LabeledObject, check_tolerance, labeled_objects
from foveate.typed_options import TypedOptions


@dataclass(frozen=True, kw_only=True)
class LabelOptions(TypedOptions):
    """Options of annotations.

    Args:
        score_threshold: Smallest score of an object, 0 to 1.
        max_objects: Largest number of objects per image.
        max_overlap: Intersection over union with the mask of a better object above which an object
            is left out, whatever its class.
        tolerance: Largest distance in pixels between the outline of a mask and its polygons; 0
            follows every pixel.
        label: Name of an object without a class.

    Raises:
        OptionError: A value has the wrong type or lies outside its range.
    """

    score_threshold: float = 0.25
    max_objects: int = 20
    max_overlap: float = 0.5
    tolerance: float = 1.0
    label: str = "object"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("score_threshold", "max_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} must lie in 0..1, found {getattr(self, name)}")
        check_tolerance(self.tolerance)
        self._check_at_least(max_objects=1)
        if not self.label.strip():
            raise OptionError("label is empty", remedy="name what the objects are")
        if printable(self.label) != self.label:  # no reader of the files would take it
            raise OptionError(f"label must be printable text, found {self.label!r:.60}")


def label_objects(found: Detections | Proposals, options: LabelOptions) -> list[LabeledObject]:
    """Return the objects of an image to annotate, best first."""
    chosen = found[_choose(found, options)]
    names = chosen.names if isinstance(chosen, Detections) else [options.label] * len(chosen)
    return labeled_objects(names, chosen.scores, chosen.masks, options.tolerance)


def _choose(found: Detections | Proposals, options: LabelOptions) -> list[int]:
    """Return the indices of objects whose masks do not overlap too much, best first."""
    order = np.argsort(-found.scores, kind="stable")
    worthy = (found.scores >= options.score_threshold) & (found.masks.areas() > 0)
    candidates = order[worthy[order]]
    codes = found.masks[candidates].rle()
    keep: list[int] = []
    for row, code in enumerate(codes):
        overlaps = coco_mask.iou([code], [codes[k] for k in keep], [0] * len(keep))
        if not np.any(np.asarray(overlaps) > options.max_overlap):
            keep.append(row)
        if len(keep) == options.max_objects:
            break
    return [int(index) for index in candidates[keep]]
