# SPDX-License-Identifier: Apache-2.0
"""Views: what they show, and which windows they call positive."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.datasets import Instance
from foveate.training.mini.views import (
    CONTEXT,
    GRID,
    SIDE,
    LabelRules,
    crowd_shares,
    label_windows,
    sample_view,
)

RULES = LabelRules()
NO_CROWD = np.zeros((640, 640), np.uint8)
CENTER = CONTEXT + 16 * 5 + 80  # of the middle window


def labels(offset: float, octaves: float) -> tuple[int, int]:
    """Score label and owner of the middle window for one object."""
    scores, owners = label_windows(
        np.array([[CENTER + offset, CENTER]]), np.array([92 * 2**octaves]), RULES
    )
    return int(scores[5, 5]), int(owners[5, 5])


def test_a_centerd_object_of_canonical_size_is_positive() -> None:
    assert labels(0, 0) == (1, 0)


def test_a_near_miss_is_not_trained_on() -> None:
    assert labels(20, 0)[0] == -1
    assert labels(0, 0.7)[0] == -1


def test_a_distant_or_wrongly_sized_object_is_negative() -> None:
    assert labels(30, 0) == (0, -1)
    assert labels(0, 1.0) == (0, -1)
    assert labels(0, -1.0) == (0, -1)


def test_the_nearer_of_two_objects_owns_the_window() -> None:
    centers = np.array([[CENTER + 10.0, CENTER], [CENTER - 4.0, CENTER]])
    _, owners = label_windows(centers, np.array([92.0, 92.0]), RULES)
    assert owners[5, 5] == 1


def a_disc(size: int, radius: int) -> tuple[np.ndarray, Instance]:
    y, x = np.mgrid[:size, :size]
    mask = ((x - size // 2) ** 2 + (y - size // 2) ** 2 < radius**2).astype(np.uint8)
    image = np.where(mask[..., None] == 1, (250, 40, 40), (0, 90, 0)).astype(np.uint8)
    low, high = size // 2 - radius + 1, size // 2 + radius
    box = np.array([low, low, high, high], np.float32)
    return image, Instance(label=0, box=box, mask=mask)


@pytest.mark.parametrize("radius", [15, 60, 200])
def test_masks_lie_on_the_pixels_that_the_view_shows(radius: int) -> None:
    image, instance = a_disc(640, radius)
    shown = 0
    for seed in range(20):
        view = sample_view(image, [instance], NO_CROWD, np.random.default_rng(seed), RULES)
        for mask in view.masks.values():
            shown += 1
            red = (view.pixels[..., 0] > 125) & (view.pixels[..., 1] < 100)
            assert (red == (mask > 127)).mean() > 0.99
    assert shown > 5


def test_owned_windows_hold_their_object_at_its_center() -> None:
    image, instance = a_disc(640, 60)
    for seed in range(20):
        view = sample_view(image, [instance], NO_CROWD, np.random.default_rng(seed), RULES)
        for row, column in np.argwhere(view.owners >= 0):
            y, x = CONTEXT + 16 * row, CONTEXT + 16 * column
            ys, xs = np.nonzero(view.masks[0][y : y + 160, x : x + 160] > 127)
            assert abs((ys.min() + ys.max() + 1) / 2 - 80) <= RULES.mask_distance + 1
            assert abs((xs.min() + xs.max() + 1) / 2 - 80) <= RULES.mask_distance + 1


def test_a_view_is_decided_by_its_generator() -> None:
    image, instance = a_disc(320, 50)
    first, second = (
        sample_view(image, [instance], NO_CROWD[:320, :320], np.random.default_rng(3), RULES)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.pixels.shape == (SIDE, SIDE, 3)
    assert first.scores.shape == (GRID, GRID)


def test_the_middle_of_a_window_in_a_crowd_is_measured() -> None:
    crowd = np.zeros((SIDE, SIDE), np.uint8)
    crowd[:, CENTER:] = 255
    shares = crowd_shares(crowd)
    middle = CONTEXT + 16 * np.arange(GRID) + 80
    expected = ((middle + 46 - CENTER) / 92).clip(0, 1)
    assert shares == pytest.approx(np.tile(expected, (GRID, 1)))


@pytest.mark.parametrize("seed", range(8))
def test_windows_that_may_show_an_object_of_a_crowd_are_not_negatives(seed: int) -> None:
    image, instance = a_disc(640, 60)
    crowd = NO_CROWD.copy()
    crowd[:, 330:] = 1  # to the right of the middle of the disc
    image[:, 330:, 2] = 255  # so that the view shows where it is
    with_crowd, without = (
        sample_view(image, [instance], crowds, np.random.default_rng(seed), RULES)
        for crowds in (crowd, NO_CROWD)
    )
    shown = with_crowd.pixels[..., 2] > 191
    shown[with_crowd.pixels[..., 0] == 127] = False  # outside the image
    for row, column in np.ndindex(GRID, GRID):
        top, left = CONTEXT + 16 * row + 34, CONTEXT + 16 * column + 34
        share = shown[top : top + 92, left : left + 92].mean()
        before, after = without.scores[row, column], with_crowd.scores[row, column]
        if before != 0 or share < 0.45:
            assert after == before
        elif share > 0.55:
            assert after == -1
    np.testing.assert_array_equal(with_crowd.pixels, without.pixels)
    np.testing.assert_array_equal(with_crowd.owners, without.owners)
