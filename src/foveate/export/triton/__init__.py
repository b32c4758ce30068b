# SPDX-License-Identifier: Apache-2.0
"""Export of bundles for Triton Inference Server."""

from __future__ import annotations

from foveate.export.triton.repository import write_repository

__all__ = ["write_repository"]
