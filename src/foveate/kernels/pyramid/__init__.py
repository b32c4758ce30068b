# SPDX-License-Identifier: Apache-2.0
"""Resizing images, and placing them on the normalised canvas that an engine reads."""

from __future__ import annotations

from foveate.kernels.op import Op
from foveate.kernels.pyramid import host, plan

__all__ = ["PLACE", "RESIZE"]

RESIZE = Op(
    name="resize",
    host=host.resize,
    outputs=("resized",),
    kernels=("foveate_pyramid_resize",),
    plan=plan.resize,
)
PLACE = Op(
    name="place",
    host=host.place,
    outputs=("canvas",),
    kernels=("foveate_pyramid_place",),
    plan=plan.place,
)
