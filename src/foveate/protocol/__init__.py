# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol of KServe, Triton and other model servers."""
