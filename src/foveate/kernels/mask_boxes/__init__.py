# SPDX-License-Identifier: Apache-2.0
"""Boxes of masks: the mask logits of each window are resampled, compared and enclosed."""

from __future__ import annotations

from foveate.kernels.mask_boxes import host, plan
from foveate.kernels.op import Op

__all__ = ["MASK_BOXES"]

MASK_BOXES = Op(
    name="mask_boxes",
    host=host.mask_boxes,
    outputs=("boxes",),
    kernels=("foveate_paste_windows", "foveate_paste_boxes"),
    plan=plan.mask_boxes,
)
