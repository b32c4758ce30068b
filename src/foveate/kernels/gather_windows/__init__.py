# SPDX-License-Identifier: Apache-2.0
"""Cutting the patches of the selected windows out of the maps of all levels."""

from __future__ import annotations

from foveate.kernels.gather_windows import host, plan
from foveate.kernels.op import Op

__all__ = ["GATHER_WINDOWS"]

GATHER_WINDOWS = Op(
    name="gather_windows",
    host=host.gather_windows,
    outputs=("patches",),
    kernels=("foveate_gather_windows",),
    plan=plan.gather_windows,
)
