# SPDX-License-Identifier: Apache-2.0
"""Changes of a network before its export that save work."""
