# SPDX-License-Identifier: Apache-2.0
"""Checks of a bundle: inspection of its files, and comparison with its networks."""
