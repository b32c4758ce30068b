# SPDX-License-Identifier: Apache-2.0
"""The objectness of a proposal rates its mask by the mean probability of the foreground."""

from __future__ import annotations

import math

import pytest
import torch

from foveate.models.mask_scoring import mask_scores

SCORES = torch.tensor([[0.5], [-2.0]])


def odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_log_odds_of_the_mean_probability_of_the_foreground_are_added() -> None:
    logits = torch.full((2, 16, 16), -3.0)  # background, which does not count
    logits[0, :8] = 1.0
    logits[1, :4], logits[1, 4:8] = -0.25, 2.0  # both are above the threshold
    sharpness = [torch.tensor(values).sigmoid().mean().item() for values in ([1.0], [-0.25, 2.0])]
    found = mask_scores(logits, SCORES, -0.5)
    assert found.tolist() == [
        [pytest.approx(0.5 + odds(sharpness[0]), abs=1e-5)],
        [pytest.approx(-2.0 + odds(sharpness[1]), abs=1e-5)],
    ]


def test_a_logit_at_the_threshold_is_background() -> None:
    logits = torch.full((2, 16, 16), -0.5)
    logits[:, 0, 0] = 1.0
    assert torch.allclose(mask_scores(logits, SCORES, -0.5), SCORES + 1.0, atol=1e-5)


def test_an_empty_mask_lowers_the_score_and_a_perfect_one_raises_it_by_a_finite_number() -> None:
    logits = torch.full((2, 16, 16), 100.0)
    logits[1] = -100.0
    found = mask_scores(logits, SCORES, 0.0) - SCORES
    assert found.flatten().tolist() == pytest.approx([13.8, -13.8], abs=0.1)
