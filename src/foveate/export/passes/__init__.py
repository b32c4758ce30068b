# SPDX-License-Identifier: Apache-2.0
"""Optimization passes that change a network before its export."""
