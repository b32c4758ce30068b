# SPDX-License-Identifier: Apache-2.0
"""Slow and obvious version, one box at a time in float64."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log


def decode_box(
    box: Sequence[float],
    delta: Sequence[float],
    mean: Sequence[float],
    std: Sequence[float],
    height: int,
    width: int,
) -> tuple[float, float, float, float]:
    """Return one regressed xyxy box, clipped to the image; see the host version."""
    t_x, t_y, t_w, t_h = (d * s + m for d, s, m in zip(delta, std, mean, strict=True))
    old_width, old_height = box[2] - box[0], box[3] - box[1]
    x = box[0] + old_width / 2 + t_x * old_width
    y = box[1] + old_height / 2 + t_y * old_height
    new_width = old_width * exp(min(t_w, log(1000 / 16)))
    new_height = old_height * exp(min(t_h, log(1000 / 16)))
    return (
        min(max(x - new_width / 2, 0.0), float(width)),
        min(max(y - new_height / 2, 0.0), float(height)),
        min(max(x + new_width / 2, 0.0), float(width)),
        min(max(y + new_height / 2, 0.0), float(height)),
    )
