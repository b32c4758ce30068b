# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling. It is part of the classify engine; ``reference.py`` says what it computes."""

from __future__ import annotations

__all__ = ["FARTHEST", "ROUNDINGS"]

ROUNDINGS = ("caffe", "v2")

FARTHEST = 2.0**28
"""Largest map coordinate; what lies farther, infinity too, counts as this."""
