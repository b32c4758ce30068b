# SPDX-License-Identifier: Apache-2.0
"""Training of networks: ``mini`` from cached features, and the full-size networks as published."""
