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

    Args:
        logits: (N,) float.
        labels: (N,) float, 1 where the window holds a centred object, else 0.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels)


def integral_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over heads of softmax cross-entropy, each at its own IoU threshold.

    The integral of the loss over thresholds, approximated by their mean (MultiPath, section 3.3,
    equation 5).

    Args:
        class_logits: (heads, R, classes + 1) float.
        labels: (heads, R) int64; 0 is background, -1 a box that the head does not train on.
    """
    return torch.stack(
        [
            functional.cross_entropy(logits, label, ignore_index=-1)
            for logits, label in zip(class_logits, labels, strict=True)
        ]
    ).mean()


def box_loss(deltas: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Smooth L1 of the true class's deltas, summed over foregrounds, over the number of boxes.

    Girshick, "Fast R-CNN", equation 2 and 3.

    Args:
        deltas: (R, classes + 1, 4) float, normalised.
        targets: (R, 4) float, normalised; what stands at backgrounds is not read.
        labels: (R,) int64, 0 or less where no box is to be regressed.
    """
    foreground = torch.nonzero(labels > 0).squeeze(1)
    chosen = deltas[foreground, labels[foreground]]
    return functional.smooth_l1_loss(chosen, targets[foreground], reduction="sum") / len(labels)
