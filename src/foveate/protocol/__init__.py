# SPDX-License-Identifier: Apache-2.0
"""The Open Inference Protocol, which KServe, Triton and others serve models by."""
