# SPDX-License-Identifier: Apache-2.0
"""Stages in float16 and INT8: made from float32 ones by declared passes, and measured on images."""

from __future__ import annotations

from foveate.export.precision.conversion import Converted, convert
from foveate.export.precision.options import PrecisionOptions
from foveate.export.precision.ranges import METHODS

__all__ = ["METHODS", "Converted", "PrecisionOptions", "convert"]
