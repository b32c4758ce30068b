# SPDX-License-Identifier: Apache-2.0
"""Conversion of PyTorch stages to ONNX models, and back."""
