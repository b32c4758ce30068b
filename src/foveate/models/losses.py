# SPDX-License-Identifier: Apache-2.0
"""The training losses of the three systems, one named function an equation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mask_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Per-pixel logistic loss of masks: mean over samples of mean over pixels.

    mean log(1 + exp(-m f)), m in {-1, +1} (DeepMask, section 3.1, mask term of equation 1; the
    label of a soft edge pixel lies between).

    Args:
        logits: (K, S, S) float.
        labels: (K, S, S) float in [0, 1], the share of the pixel that is the object's.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def score_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Logistic loss of objectness: mean log(1 + exp(-y f)) (DeepMask, equation 1, second term).

    In batches of one kind each, as published, a mask batch of N windows adds N `mask_loss` and a
    score batch N lambda `score_loss`, lambda = 1/32. The release multiplies the mean mask gradient
    by N and leaves the mean score gradient as it is, so that its effective lambda is 1 / N.

    Args:
        logits: (N,) float.
        labels: (N,) float, 1 where the window holds a centred object, else 0.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def integral_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy of each head at its own IoU threshold, mean over heads.

    1/n sum_u L_u(p, k*_u), u = 0.50, 0.55, ..., where k*_u is the true class if the box overlaps it
    by at least u, else background: the integral of the loss over thresholds as a sum (MultiPath,
    section 3.3, equation 5). The release trains one head a step: hand over that head alone.

    Args:
        class_logits: (heads, R, classes + 1) float.
        labels: (heads, R) int64; 0 is background, -1 a box that the head does not train on. A head
            without any box counts as 0.
    """
    flat = functional.cross_entropy(
        class_logits.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none"
    ).reshape(labels.shape)
    boxes = (labels >= 0).sum(dim=1).clamp(min=1)
    return (flat.sum(dim=1) / boxes).mean()


def box_loss(deltas: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Smooth L1 of the true class's deltas, summed over foregrounds, over the number of boxes.

    1/R sum_r [k_r > 0] sum_i smooth(d_r,k_r,i - t_r,i), smooth(x) = x^2 / 2 where |x| < 1, else
    |x| - 1/2 (Girshick, "Fast R-CNN", equations 2 and 3). Targets are normalised, t = (t' - mean) /
    std, with t' = ((cx* - cx) / w, (cy* - cy) / h, log(w* / w), log(h* / h)) of the box (cx, cy, w,
    h) and the truth (cx*, cy*, w*, h*).

    Args:
        deltas: (R, classes + 1, 4) float, normalised.
        targets: (R, 4) float, normalised; what stands at backgrounds is not read.
        labels: (R,) int64, 0 or less where no box is to be regressed.
    """
    foreground = torch.nonzero(labels > 0).squeeze(1)
    chosen = deltas[foreground, labels[foreground]]
    return functional.smooth_l1_loss(chosen, targets[foreground], reduction="sum") / len(labels)
