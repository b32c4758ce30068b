# SPDX-License-Identifier: Apache-2.0
"""Comparison of the networks before an export with those of its bundle."""

from __future__ import annotations

import torch

from foveate.models.checkpoint import Cascade, round_to_half


def assert_same_weights(cascade: Cascade, again: Cascade) -> None:
    """Compare the state of both networks bit by bit, except for a mask head that is not exported."""
    assert cascade.classifier is not None
    assert again.classifier is not None
    for one, other in (
        (cascade.proposals, again.proposals),
        (cascade.classifier, again.classifier),
    ):
        found = other.state_dict()
        for name, value in one.state_dict().items():
            if not name.startswith("deepmask.mask"):  # refined by SharpMask, so not exported
                assert torch.equal(value, found[name]), name


def rounded(cascade: Cascade) -> Cascade:
    """Round the weights in place, as a bundle stores them."""
    for network in (cascade.proposals, cascade.classifier):
        if network is not None:
            round_to_half(network)
    return cascade
