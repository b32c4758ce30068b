# SPDX-License-Identifier: Apache-2.0
"""Objects as polygons with a name, which the writers of annotation files take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.results.arguments import checked_number
from foveate.results.polygons import mask_polygons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.arrays import Float32Array, Float64Array
    from foveate.results.masks import Masks


@dataclass(frozen=True, kw_only=True)
class LabeledObject:
    """One object to annotate.

    Args:
        label: Class name.
        score: Score, 0 to 1.
        area: Number of pixels of the mask.
        box: x, y, width and height of the box that bounds the mask, in pixels.
        polygons: (V, 2) float64 x, y in pixels of the image; one per connected part.
    """

    label: str
    score: float
    area: int
    box: tuple[int, int, int, int]
    polygons: list[Float64Array]


def labeled_objects(
    names: Sequence[str], scores: Float32Array, masks: Masks, tolerance: float
) -> list[LabeledObject]:
    """Return objects as polygons, in the same order.

    Args:
        names: N class names.
        scores: (N,) float32, 0 to 1.
        masks: N masks.
        tolerance: Largest distance in pixels between the outline of a mask and its polygons; see
            ``mask_polygons``.

    Raises:
        OptionError: The tolerance is out of range.
    """
    check_tolerance(tolerance)
    boxes, areas = masks.boxes().astype(int).tolist(), masks.areas().tolist()
    return [
        LabeledObject(
            label=name,
            score=round(float(scores[index]), 4),
            area=areas[index],
            box=(x0, y0, x1 - x0, y1 - y0),
            polygons=mask_polygons(masks, index, tolerance),
        )
        for index, (name, (x0, y0, x1, y1)) in enumerate(zip(names, boxes, strict=True))
    ]


def check_tolerance(tolerance: float) -> None:
    """Check the tolerance of polygons.

    Raises:
        OptionError: It is out of range.
    """
    checked_number("tolerance", tolerance, most=100)
