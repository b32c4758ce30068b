# SPDX-License-Identifier: Apache-2.0
"""What is in a bundle: its layers, what runs them, and in which precision. Needs no PyTorch."""

from __future__ import annotations

from foveate.export.inspection.report import (
    BundleReport,
    EngineReport,
    StageReport,
    check_report,
    inspect_bundle,
)

__all__ = ["BundleReport", "EngineReport", "StageReport", "check_report", "inspect_bundle"]
