# SPDX-License-Identifier: Apache-2.0
"""The four foveal regions of a box. They are part of the classify engine; this is their meaning."""

from __future__ import annotations

__all__ = ["FOVEAL_SCALES"]

FOVEAL_SCALES = (1.0, 1.5, 2.0, 4.0)
