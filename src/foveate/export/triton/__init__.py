# SPDX-License-Identifier: Apache-2.0
"""Export of bundles for Triton Inference Server."""

from foveate.export.triton.repository import write_repository

__all__ = ["write_repository"]
