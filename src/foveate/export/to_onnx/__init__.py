# SPDX-License-Identifier: Apache-2.0
"""PyTorch networks to ONNX files."""
