# SPDX-License-Identifier: Apache-2.0
"""Choosing the best windows over all levels."""

from __future__ import annotations

from foveate.kernels.op import Op
from foveate.kernels.select_top_k import host, plan

__all__ = ["SELECT_TOP_K"]

SELECT_TOP_K = Op(
    name="select_top_k",
    host=host.select_top_k,
    outputs=("picks", "geometry", "scores", "count"),
    kernels=("foveate_select_cells", "foveate_select_order", "foveate_select_scan"),
    plan=plan.select_top_k,
)
