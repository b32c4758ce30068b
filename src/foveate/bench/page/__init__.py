# SPDX-License-Identifier: Apache-2.0
"""A record as one self-contained HTML page."""
