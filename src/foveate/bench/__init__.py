# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of pipelines: scenarios, statistics with intervals, and comparisons."""
