# SPDX-License-Identifier: Apache-2.0
"""Production version for numpy memory."""

from __future__ import annotations

import numpy as np

from foveate.arrays import Float32Array, Int32Array


def take_boxes(
    boxes: Float32Array,
    kept: Int32Array,
    taken: Float32Array,
    *,
    horizontal: float,
    vertical: float,
) -> None:
    """Gather boxes and scale them.

    Args:
        boxes: (K, 4) xyxy.
        kept: (R,): indices into ``boxes``, -1 for none.
        taken: (R, 4): the boxes times the factors; zeros where there is none.
        horizontal: Factor of x.
        vertical: Factor of y.
    """
    factors = np.array([horizontal, vertical, horizontal, vertical], np.float32)
    np.multiply(boxes[kept], factors, out=taken)
    taken[kept < 0] = 0
