# SPDX-License-Identifier: Apache-2.0
"""Places in the checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "foveate"
IMAGES = PACKAGE / "assets" / "images"
CAT = IMAGES / "cat.jpg"
