# SPDX-License-Identifier: Apache-2.0
"""Readers of Torch7 files and of the three networks stored in them."""
