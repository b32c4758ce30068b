# SPDX-License-Identifier: Apache-2.0
"""The objectness of a proposal rates its mask by the mean probability of the foreground."""

from __future__ import annotations

import math

import pytest
import torch

from foveate.models.mask_scoring import mask_scores

SCORES = torch.tensor([[0.5], [-2.0]])


def test_odds_are_multiplied_by_the_sixth_power_of_the_mean_probability_of_the_foreground() -> None:
    logits = torch.full((2, 16, 16), -3.0)  # background, which does not count
    logits[0, :8] = 1.0
    logits[1, :4], logits[1, 4:8] = -0.25, 2.0  # both are above the threshold
    sharpness = [torch.tensor(values).sigmoid().mean().item() for values in ([1.0], [-0.25, 2.0])]
    found = mask_scores(logits, SCORES, -0.5)
    assert found.tolist() == [
        [pytest.approx(0.5 + 6 * math.log(sharpness[0]), abs=1e-5)],
        [pytest.approx(-2.0 + 6 * math.log(sharpness[1]), abs=1e-5)],
    ]


def test_a_logit_at_the_threshold_is_background() -> None:
    logits = torch.full((2, 16, 16), -0.5)
    logits[:, 0, 0] = 1.0
    rated = 6 * torch.tensor(1.0).sigmoid().log()
    assert torch.allclose(mask_scores(logits, SCORES, -0.5), SCORES + rated, atol=1e-5)


def test_a_certain_mask_keeps_the_score_and_an_empty_one_lowers_it_by_a_finite_number() -> None:
    logits = torch.full((2, 16, 16), 100.0)
    logits[1] = -100.0
    found = mask_scores(logits, SCORES, 0.0) - SCORES
    assert found.flatten().tolist() == pytest.approx([0.0, -82.9], abs=0.1)
