# SPDX-License-Identifier: Apache-2.0
"""Greedy non-maximum suppression."""

from __future__ import annotations

from foveate.kernels.nms import host, plan
from foveate.kernels.op import Op

__all__ = ["NMS"]

NMS = Op(
    name="nms",
    host=host.nms,
    outputs=("kept", "kept_count"),
    kernels=("foveate_nms_keys", "foveate_nms_order", "foveate_nms_masks", "foveate_nms_scan"),
    plan=plan.nms,
)
