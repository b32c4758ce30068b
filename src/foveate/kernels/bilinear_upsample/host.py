# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Floats, Ints
from foveate.kernels.bilinear_upsample.window import Window
from foveate.kernels.bilinear_upsample.window_mask import WindowMask

__all__ = ["mask_boxes"]


def mask_boxes(
    logits: Floats,
    geometry: Floats,
    count: Ints,
    boxes: Floats,
    *,
    threshold: float,
    picture_height: int,
    picture_width: int,
) -> None:
    """Find the box of each window's mask in the picture.

    Args:
        logits: (K, S, S).
        geometry: (K, 4): x0, y0, width, height of the windows in the picture frame; a width of 0
            marks padding.
        count: (1,): only the first ``count`` windows exist.
        boxes: (K, 4) xyxy in the picture frame, tight and in whole pixels; zeros for an empty mask
            and after the end.
        threshold: A pixel is foreground if its resampled logit is larger.
        picture_height: Rows of the picture.
        picture_width: Columns of the picture.
    """
    boxes[:] = 0
    for k in np.flatnonzero(geometry[: int(count[0]), 2]):
        window = Window.around(geometry[k].tolist())
        mask = WindowMask(
            logits[k],
            window,
            threshold=threshold,
            picture_height=picture_height,
            picture_width=picture_width,
        )
        boxes[k] = mask.box()
