# SPDX-License-Identifier: Apache-2.0
"""The logistic regression behind calibrated scores."""

from __future__ import annotations

import numpy as np

from foveate.training.calibration import fit_logistic


def test_the_coefficients_that_made_the_data_are_found_again() -> None:
    rng = np.random.default_rng(0)
    inputs = np.column_stack([np.ones(200_000), rng.normal(size=(200_000, 2))])
    truth = np.array([-1.0, 0.7, 0.3])
    right = rng.random(len(inputs)) < 1 / (1 + np.exp(-inputs @ truth))
    np.testing.assert_allclose(fit_logistic(inputs, right), truth, atol=0.03)


def test_scores_are_the_share_of_what_is_right() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(size=50_000) * 2
    right = rng.random(len(logit)) < 1 / (1 + np.exp(-(0.5 * logit - 1)))  # overconfident by two
    inputs = np.column_stack([np.ones(len(logit)), logit, np.zeros(len(logit))])
    scores = 1 / (1 + np.exp(-inputs @ fit_logistic(inputs, right)))
    for low in (0.1, 0.3, 0.5):
        chosen = (scores >= low) & (scores < low + 0.1)
        assert abs(right[chosen].mean() - scores[chosen].mean()) < 0.03
