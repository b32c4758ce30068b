# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling. It is part of the classify engine; ``reference.py`` says what it computes."""

from __future__ import annotations

__all__ = ["ROUNDINGS"]

ROUNDINGS = ("caffe", "v2")
