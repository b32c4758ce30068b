# SPDX-License-Identifier: Apache-2.0
"""Conversion of float32 stages to float16 and INT8, measured on images."""

from foveate.export.precision.calibration import METHODS
from foveate.export.precision.conversion import Converted, convert
from foveate.export.precision.options import PrecisionOptions

__all__ = ["METHODS", "Converted", "PrecisionOptions", "convert"]
