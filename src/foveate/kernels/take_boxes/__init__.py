# SPDX-License-Identifier: Apache-2.0
"""Gathering the boxes to classify, in the frame of the features canvas."""

from __future__ import annotations

from foveate.kernels.op import Op
from foveate.kernels.take_boxes import host, plan

__all__ = ["TAKE_BOXES"]

TAKE_BOXES = Op(
    name="take_boxes",
    host=host.take_boxes,
    outputs=("taken",),
    kernels=("foveate_take_boxes",),
    plan=plan.take_boxes,
)
