# SPDX-License-Identifier: Apache-2.0
"""The mean of a network before and after more training.

Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022): on images unlike those of
the training, the mean of the weights is often better than either. docs/explanation/decisions/index.md has what it
does to `mini`.
"""

from __future__ import annotations

import torch

from foveate.models.sharpmask import SharpMask

MASK_HEAD = "deepmask.mask."
"""Parameters of DeepMask's mask head, which SharpMask does not run and a bundle does not hold."""


def average_with(network: SharpMask, initial: SharpMask, share: float = 0.5) -> None:
    """Move a network's weights, in place, towards those that its training began with.

    Args:
        network: trained; its mask head, which began anew, stays.
        initial: what it began as.
        share: of the initial weights, from 0 to 1.
    """
    before = initial.state_dict()
    with torch.no_grad():
        for name, weights in network.state_dict().items():
            if not name.startswith(MASK_HEAD):
                weights.lerp_(before[name], share)
