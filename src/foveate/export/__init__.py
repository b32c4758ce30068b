# SPDX-License-Identifier: Apache-2.0
"""Export of PyTorch networks to bundles, and checks, compilation and serving of bundles."""
