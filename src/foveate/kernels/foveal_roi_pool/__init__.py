# SPDX-License-Identifier: Apache-2.0
"""Pooling and normalising the foveal regions of boxes from several maps at once.

It is part of the classify engine; ``reference.py`` says what it computes.
"""

from __future__ import annotations

__all__ = ["NORMALISATIONS", "PAIRS"]

NORMALISATIONS = ("none", "l2", "rms")

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0))
"""The (region, map) pairs that MultiPathNet's five towers read, nine of the twelve; maps from the
deepest, regions as in ``FOVEAL_SCALES``."""
