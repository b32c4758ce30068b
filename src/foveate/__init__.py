# SPDX-License-Identifier: Apache-2.0
"""Foveate: finds, outlines and names every object in a picture."""

from __future__ import annotations

__version__ = "0.1.0"
