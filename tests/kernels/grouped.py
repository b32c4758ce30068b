# SPDX-License-Identifier: Apache-2.0
"""The suppression among boxes of groups, which the postprocessing launches, as an operation."""

from __future__ import annotations

from typing import Any

from foveate.kernels.nms.op import NMS, suppress
from foveate.kernels.op import Op


def _on_cpu(
    boxes: Any, scores: Any, groups: Any, count: Any, keep: Any, keep_count: Any, *, iou: float
) -> None:
    raise NotImplementedError


GROUPED = Op(
    "grouped", cpu=_on_cpu, outputs=("keep", "keep_count"), source=NMS.source, launches=suppress
)
