# SPDX-License-Identifier: Apache-2.0
"""Bilinear upsampling, in two modes.

*map*: a whole map grows by one factor. *windows*: the mask logits of each window are resampled to
the size of the window in the image, compared with a threshold and clipped to the image; the kernels
are those of :mod:`foveate.kernels.mask_boxes`.
"""
