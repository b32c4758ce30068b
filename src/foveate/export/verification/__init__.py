# SPDX-License-Identifier: Apache-2.0
"""Proofs that a bundle computes what its networks compute: figures, and what is asked of them."""

from __future__ import annotations

from foveate.export.verification.bisect import Drift, first_drift
from foveate.export.verification.judge import (
    Thresholds,
    default_thresholds,
    judge,
    judge_pasting,
)
from foveate.export.verification.parity import measure, pasting_on, reference_pipeline
from foveate.export.verification.record import Accuracy, Record, read_record, write_record
from foveate.export.verification.reference import Reference, bundle_reference, torch_reference
from foveate.export.verification.subject import bundle_pipeline

__all__ = [
    "Accuracy",
    "Drift",
    "Record",
    "Reference",
    "Thresholds",
    "bundle_pipeline",
    "bundle_reference",
    "default_thresholds",
    "first_drift",
    "judge",
    "judge_pasting",
    "measure",
    "pasting_on",
    "read_record",
    "reference_pipeline",
    "torch_reference",
    "write_record",
]
