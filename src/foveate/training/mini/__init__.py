# SPDX-License-Identifier: Apache-2.0
"""Training of ``mini`` on two processor cores, from cached features of a frozen trunk."""
