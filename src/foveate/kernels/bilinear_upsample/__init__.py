# SPDX-License-Identifier: Apache-2.0
"""Bilinear upsampling (half-pixel), in two modes.

*map*: a whole map grows by one factor. *windows*: each window's mask logits are resampled to the
window's own size in the image, compared with a threshold and clipped to the image.
"""

from __future__ import annotations

from foveate.kernels.bilinear_upsample import host, plan
from foveate.kernels.op import Op

__all__ = ["MASK_BOXES"]

MASK_BOXES = Op(
    name="mask_boxes",
    host=host.mask_boxes,
    outputs=("boxes",),
    kernels=("foveate_paste_windows", "foveate_paste_boxes"),
    plan=plan.mask_boxes,
)
