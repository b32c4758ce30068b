# SPDX-License-Identifier: Apache-2.0
"""What both versions of ROI max pooling ask of their arguments."""

from __future__ import annotations

from foveate.arrays import Floats
from foveate.errors import OptionError
from foveate.kernels.roi_max_pool import ROUNDINGS

__all__ = ["check_arguments"]


def check_arguments(
    features: Floats, rois: Floats, output_size: int | tuple[int, int], rounding: str
) -> tuple[int, int]:
    """Return the rows and columns of bins.

    Raises:
        OptionError: There is no such rounding, or the arrays are not (N, C, H, W) and (R, 5).
    """
    if rounding not in ROUNDINGS:
        raise OptionError(f"rounding must be one of {', '.join(ROUNDINGS)}, found {rounding!r}")
    if features.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        raise OptionError(
            f"expected features (N, C, H, W) and rois (R, 5), found {features.shape} and {rois.shape}"
        )
    return (output_size, output_size) if isinstance(output_size, int) else output_size
