# SPDX-License-Identifier: Apache-2.0
"""Detections, proposals and masks, and the forms in which they leave Foveate."""
