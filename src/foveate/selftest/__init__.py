# SPDX-License-Identifier: Apache-2.0
"""The self-test of a GPU: steps in processes of their own, and one report of all of them."""
