# SPDX-License-Identifier: Apache-2.0
"""The default score threshold.

NOTE: Scores are calibrated on composed pictures. Photographs differ from those, and correct detections
often score below 0.5 on them, so a threshold of 0.5 would hide most of what is found.
"""

from __future__ import annotations

__all__ = ["MIN_SCORE"]

MIN_SCORE = 0.25
