# SPDX-License-Identifier: Apache-2.0
"""TensorRT plugins of the two operators that ONNX does not define: one folder per operator."""
