# SPDX-License-Identifier: Apache-2.0
"""How the launcher of map upsampling divides its work, for tests that launch the kernel without it."""

from __future__ import annotations


def upsample_plan(height: int, width: int, out_height: int, out_width: int) -> tuple[int, int]:
    """Return how many rows of output a block makes, and how many of input it keeps, as launch.cu."""
    most = -(-out_height // 8) * 8
    band = min(max(-(-(2048 // out_width) // 8) * 8, 8), most)
    rows = min(height, band * height // out_height + 3)
    fits = 4 * rows * width + 8 * (out_width + band) <= 40960
    return band, rows if fits else 0
