# SPDX-License-Identifier: Apache-2.0
"""Detections, proposals and masks, and their output formats."""
