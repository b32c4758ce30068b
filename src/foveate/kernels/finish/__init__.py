# SPDX-License-Identifier: Apache-2.0
"""From class probabilities and box deltas to detections."""

from __future__ import annotations

from foveate.kernels.finish import host, plan
from foveate.kernels.nms import NMS
from foveate.kernels.op import Op

__all__ = ["FINISH"]

FINISH = Op(
    name="finish",
    host=host.finish,
    outputs=("found_boxes", "found_scores", "found_labels", "found_rows", "found_count"),
    kernels=(
        "foveate_finish_candidates",
        *NMS.kernels,
        "foveate_finish_gather",
    ),
    plan=plan.finish,
)
