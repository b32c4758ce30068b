# SPDX-License-Identifier: Apache-2.0
"""The training losses of the three systems, one function per equation."""

import torch
from torch import Tensor
from torch.nn import functional


def mask_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logistic loss of masks: the mean over samples of the mean over pixels.

    mean log(1 + exp(-m f)) with m in {-1, +1} (DeepMask, section 3.1, mask term of equation 1).

    Args:
        logits: Mask logits, (K, S, S) float.
        labels: Share of each pixel that the object covers, (K, S, S) float in [0, 1].
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def score_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logistic loss of objectness.

    mean log(1 + exp(-y f)) with y in {-1, +1} (DeepMask, section 3.1, score term of equation 1).
    The paper weights this term by lambda = 1/32. The original code multiplies the mean gradient of
    a mask batch of N windows by N and that of a score batch by 1, so that its lambda is 1 / N.

    Args:
        logits: Score logits, (N,) float.
        labels: 1 where an object is centered in the window, 0 elsewhere, (N,) float.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the focal loss of objectness, divided by the number of positives.

    sum -a (1 - p)^2 log p, where p is the probability of the true label, and a is 1/4 for
    positives and 3/4 for negatives (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017,
    equation 5). Windows that are clearly empty, which are most of an image, weigh almost nothing.

    Args:
        logits: Score logits, (N,) float.
        labels: 1 where an object is centered in the window, 0 elsewhere, (N,) float.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    wrong = torch.abs(labels - torch.sigmoid(logits))
    weights = (0.75 - 0.5 * labels) * wrong.square()
    # At least 8: the negatives of a batch with few positives would otherwise dominate the gradient.
    return (weights * loss).sum() / labels.sum().clamp(min=8)


def integral_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over heads of the cross-entropy at the IoU threshold of each head.

    1/n sum_u L_u(p, k*_u) with u = 0.50, 0.55, ..., where k*_u is the true class if the IoU of box
    and object is at least u, and background otherwise (MultiPath, section 3.3, equation 5). The
    original code trains one head per step: pass that head alone.

    Args:
        class_logits: Class logits, (heads, R, classes + 1) float.
        labels: Classes, (heads, R) int64; 0 is background, -1 a box that the head does not train
            on. The loss of a head without boxes is 0.
    """
    flat = functional.cross_entropy(
        class_logits.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none"
    ).reshape(labels.shape)
    boxes = (labels >= 0).sum(dim=1).clamp(min=1)
    return (flat.sum(dim=1) / boxes).mean()


def box_loss(deltas: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Return the smooth L1 loss of the deltas of the true class, divided by the number of boxes.

    1/R sum_r [k_r > 0] sum_i smooth(d_r,k_r,i - t_r,i), where smooth(x) is x^2 / 2 for |x| < 1 and
    |x| - 1/2 otherwise (Girshick, "Fast R-CNN", equations 2 and 3). Targets are normalized,
    t = (t' - mean) / std with t' = ((cx* - cx) / w, (cy* - cy) / h, log(w* / w), log(h* / h)) for
    the box (cx, cy, w, h) and the object (cx*, cy*, w*, h*).

    Args:
        deltas: Normalized deltas, (R, classes + 1, 4) float.
        targets: Normalized targets, (R, 4) float; rows of background are not read.
        labels: Classes, (R,) int64; 0 or less where no box is regressed.
    """
    foreground = torch.nonzero(labels > 0).squeeze(1)
    chosen = deltas[foreground, labels[foreground]]
    return functional.smooth_l1_loss(chosen, targets[foreground], reduction="sum") / len(labels)
