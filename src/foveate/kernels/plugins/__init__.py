# SPDX-License-Identifier: Apache-2.0
"""TensorRT plugins of the operators of domain ``foveate``: one directory per operator."""
