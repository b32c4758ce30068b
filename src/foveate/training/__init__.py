# SPDX-License-Identifier: Apache-2.0
"""Data, training and evaluation of the three networks."""
