# SPDX-License-Identifier: Apache-2.0
"""Production version for NumPy memory."""

import numpy as np

from foveate.arrays import Float32Array, Int32Array
from foveate.results.window_mask import Window, window_box


def mask_boxes(
    logits: Float32Array,
    windows: Float32Array,
    count: Int32Array,
    boxes: Float32Array,
    *,
    threshold: float,
    image_height: int,
    image_width: int,
) -> None:
    """Find the box of each window's mask in the image.

    Args:
        logits: Mask logits (K, S, S), float32 or float16.
        windows: Windows (K, 4) as x0, y0, width, height in the image frame; width 0 for padding.
        count: Number of windows that exist, (1,); they come first.
        boxes: Boxes (K, 4) xyxy in the image frame, tight and in whole pixels; zeros for an empty
            mask and after the end.
        threshold: Logit above which a resampled pixel is foreground.
        image_height: Rows of the image.
        image_width: Columns of the image.
    """
    boxes[:] = 0
    # A width of 0 marks padding, which the rounding of edges would turn into a window of one pixel.
    for k in np.flatnonzero(windows[: int(count[0]), 2]):
        boxes[k] = window_box(
            logits[k].astype(np.float32, copy=False),  # OpenCV resamples no float16
            Window.around(windows[k].tolist()),
            threshold=threshold,
            region=(0, 0, image_width, image_height),
        )
