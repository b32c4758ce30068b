# SPDX-License-Identifier: Apache-2.0
"""The stages of a cascade as PyTorch modules, and those of a bundle as functions."""
