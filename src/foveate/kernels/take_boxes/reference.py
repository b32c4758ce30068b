# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version."""

from __future__ import annotations

from collections.abc import Sequence


def take_boxes(
    boxes: Sequence[Sequence[float]], kept: Sequence[int], horizontal: float, vertical: float
) -> list[list[float]]:
    """Return the kept boxes, scaled; zeros for a negative index."""
    factors = (horizontal, vertical, horizontal, vertical)
    return [
        [value * factor for value, factor in zip(boxes[index], factors, strict=True)]
        if index >= 0
        else [0.0, 0.0, 0.0, 0.0]
        for index in kept
    ]
