# SPDX-License-Identifier: Apache-2.0
"""The published tables of learning rates, written out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.errors import OptionError
from foveate.training.original.schedules import (
    DEEPMASK,
    DEEPMASK_2015,
    FAST_RCNN,
    MULTIPATHNET,
    SHARPMASK,
    SHARPMASK_ORIGINAL,
    Schedule,
)


@pytest.mark.parametrize(
    ("schedule", "epoch", "rate"),
    [
        (DEEPMASK, 1, 1e-3),
        (DEEPMASK, 50, 1e-3),
        (DEEPMASK, 51, 5e-4),
        (DEEPMASK, 120, 5e-4),
        (DEEPMASK, 121, 1e-4),
        (DEEPMASK, 300, 1e-4),
        (DEEPMASK_2015, 51, 5e-4),
        (SHARPMASK, 50, 1e-3),
        (SHARPMASK, 51, 5e-4),
        (SHARPMASK, 80, 5e-4),
        (SHARPMASK, 81, 1e-4),
        (SHARPMASK_ORIGINAL, 300, 1e-3),
        (MULTIPATHNET, 2800, 1e-3),
        (MULTIPATHNET, 2801, 1e-4),
        (MULTIPATHNET, 3200, 1e-4),
        (FAST_RCNN, 300, 1e-3),
        (FAST_RCNN, 301, 1e-4),
    ],
)
def test_rates_are_the_published_ones_in_all_of_an_epoch(
    schedule: Schedule, epoch: int, rate: float
) -> None:
    first = (epoch - 1) * schedule.epoch_steps
    last = epoch * schedule.epoch_steps - 1
    assert schedule.learning_rate(first) == schedule.learning_rate(last) == rate


@pytest.mark.parametrize(
    ("schedule", "steps", "batch", "momentum", "decay", "biases"),
    [
        (DEEPMASK, 300 * 4000, 32, 0.9, 5e-4, True),
        (DEEPMASK_2015, 300 * 4000, 32, 0.9, 5e-5, True),
        (SHARPMASK, 300 * 4000, 32, 0.0, 0.0, True),
        (MULTIPATHNET, 320_000, 4, 0.9, 0.0, False),
        (FAST_RCNN, 40_000, 2, 0.9, 5e-4, False),
    ],
)
def test_lengths_and_optimizers_are_the_published_ones(
    schedule: Schedule, steps: int, batch: int, momentum: float, decay: float, biases: bool
) -> None:
    assert (schedule.steps, schedule.batch) == (steps, batch)
    assert (schedule.momentum, schedule.weight_decay) == (momentum, decay)
    assert schedule.decays_biases is biases


def test_half_of_deepmasks_batches_are_scores_and_none_of_sharpmasks() -> None:
    assert (DEEPMASK.score_share, SHARPMASK.score_share) == (0.5, 0.0)


@given(epochs=st.integers(1, 600), share=st.floats(0, 1, exclude_max=True))
def test_a_shorter_schedule_has_the_rates_at_the_same_share_of_the_way(
    epochs: int, share: float
) -> None:
    short = DEEPMASK.shortened(epochs=epochs, epoch_steps=6000)
    assert short.steps == epochs * 6000
    index = int(share * short.steps)
    whole = index / short.steps * DEEPMASK.steps
    # Where a rate changes within less than a step, either is right.
    near = {
        DEEPMASK.learning_rate(int(min(max(whole + d, 0), DEEPMASK.steps - 1)))
        for d in (-201, 0, 201)
    }
    assert short.learning_rate(index) in near


def test_one_epoch_begins_with_the_highest_rate_and_ends_with_the_lowest() -> None:
    short = DEEPMASK.shortened(epochs=1, epoch_steps=10)
    assert [short.learning_rate(i) for i in range(10)] == [1e-3] * 2 + [5e-4] * 2 + [1e-4] * 6


@pytest.mark.parametrize(
    ("change", "message"), [({"epochs": 0}, "at least 1"), ({"batch": 0}, "at least 1")]
)
def test_empty_schedules_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DEEPMASK.shortened(**change)


@pytest.mark.parametrize("firsts", [(), (2,), (1, 5, 3), (1, 1)])
def test_rates_that_do_not_follow_one_another_are_refused(firsts: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="begin at epoch 1 and increase"):
        Schedule(
            epochs=9,
            epoch_steps=1,
            batch=1,
            learning_rates=tuple((first, 0.1) for first in firsts),
            momentum=0,
            weight_decay=0,
        )
