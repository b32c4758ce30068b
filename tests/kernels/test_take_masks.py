# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foveate.kernels.take_masks import cpu, reference

KEPT = np.float32(-77)


def take(rows: list[int] | None, found: int, dtype: Any = np.float32) -> tuple[Any, Any]:
    """Return the masks (7, 5, 5) that are taken, and those of the reference."""
    logits = np.random.default_rng(0).standard_normal((7, 5, 5)).astype(dtype)
    taken = np.full_like(logits, KEPT)
    expected = reference.take_masks(logits, rows, found, taken)
    listed = None if rows is None else np.array(rows, np.int32)
    cpu.take_masks(logits, listed, np.array([found], np.int32), taken)
    return taken, expected


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rows", [[4, 2, 4, 4, 6, 1], None])
@pytest.mark.parametrize("found", [0, 1, 5])
def test_the_masks_in_use_are_taken_and_no_others(
    rows: list[int] | None, found: int, dtype: Any
) -> None:
    taken, expected = take(rows, found, dtype)
    np.testing.assert_array_equal(taken, expected)
    used = set(range(found)) if rows is None else set(rows[:found])
    assert {k for k in range(7) if (taken[k] != KEPT).all()} == used


def test_windows_that_do_not_exist_are_ignored() -> None:
    logits, taken = np.ones((2, 3, 3), np.float32), np.zeros((2, 3, 3), np.float32)
    rows = np.array([-1, 2, 1, 2**31 - 1], np.int32)
    cpu.take_masks(logits, rows, np.array([4], np.int32), taken)
    assert taken.any(axis=(1, 2)).tolist() == [False, True]


@pytest.mark.parametrize("rows", [np.zeros(3, np.int32), None])
def test_a_negative_count_takes_nothing(rows: Any) -> None:
    logits, taken = np.ones((2, 3, 3), np.float32), np.zeros((2, 3, 3), np.float32)
    cpu.take_masks(logits, rows, np.array([-1], np.int32), taken)
    assert not taken.any()
