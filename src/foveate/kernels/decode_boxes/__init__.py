# SPDX-License-Identifier: Apache-2.0
"""Applying the box regression of the classify stage."""

from __future__ import annotations

from foveate.kernels.decode_boxes import host, plan
from foveate.kernels.op import Op

__all__ = ["DECODE_BOXES"]

DECODE_BOXES = Op(
    name="decode_boxes",
    host=host.decode_boxes_op,
    outputs=("decoded",),
    kernels=("foveate_decode_boxes",),
    plan=plan.decode_boxes,
)
