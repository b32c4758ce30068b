# SPDX-License-Identifier: Apache-2.0
"""Checks of a bundle: what it contains, and that it computes what its networks compute."""
