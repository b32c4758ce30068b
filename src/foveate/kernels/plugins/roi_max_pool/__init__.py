# SPDX-License-Identifier: Apache-2.0
"""ROI max pooling, which the classify engine applies to its feature maps."""
