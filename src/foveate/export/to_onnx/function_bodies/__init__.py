# SPDX-License-Identifier: Apache-2.0
"""Our operators in standard operators of opset 18: what runs where no plugin does."""
