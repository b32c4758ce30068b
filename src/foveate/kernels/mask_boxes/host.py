# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Float32Array, Int32Array
from foveate.results.window_mask import Window, WindowMask


def mask_boxes(
    logits: Float32Array,
    geometry: Float32Array,
    count: Int32Array,
    boxes: Float32Array,
    *,
    threshold: float,
    image_height: int,
    image_width: int,
) -> None:
    """Find the box of each window's mask in the image.

    Args:
        logits: (K, S, S).
        geometry: (K, 4): x0, y0, width, height of the windows in the image frame; a width of 0
            marks padding.
        count: (1,): only the first ``count`` windows exist.
        boxes: (K, 4) xyxy in the image frame, tight and in whole pixels; zeros for an empty mask
            and after the end.
        threshold: A pixel is foreground if its resampled logit is larger.
        image_height: Rows of the image.
        image_width: Columns of the image.
    """
    boxes[:] = 0
    for k in np.flatnonzero(geometry[: int(count[0]), 2]):
        window = Window.around(geometry[k].tolist())
        mask = WindowMask(
            logits[k],
            window,
            threshold=threshold,
            image_height=image_height,
            image_width=image_width,
        )
        boxes[k] = mask.box()
