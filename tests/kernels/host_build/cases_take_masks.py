# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, run

from foveate.kernels.take_masks import reference
from foveate.kernels.take_masks.op import TAKE_MASKS


def take(logits: Array, rows: Array | None, found: int) -> Array:
    """Return the masks that are taken; the rest is what ``run`` filled them with."""
    inputs: Any = [logits, rows, np.array([found], np.int32)]
    (taken,) = run(host_device(), TAKE_MASKS, inputs, [(logits.shape, logits.dtype)])
    return taken


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_random_cases_are_bit_equal(dtype: Any) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        count, size = int(rng.integers(1, 6)), int(rng.choice([1, 3, 4, 8, 20, 70]))
        logits = rng.standard_normal((count, size, size)).astype(dtype)
        rows = rng.integers(0, count, int(rng.integers(0, 80))).astype(np.int32)
        found = int(rng.integers(0, len(rows) + 1))
        kept = np.full(logits.nbytes, 0xA5, np.uint8).view(dtype).reshape(logits.shape)
        wanted = reference.take_masks(logits, rows.tolist(), found, kept)
        assert take(logits, rows, found).tobytes() == wanted.tobytes()
        first = min(found, count)
        wanted = reference.take_masks(logits, None, first, kept)
        assert take(logits, None, first).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("found", [-1, -(2**31), 5, 2**31 - 1])
@pytest.mark.parametrize("rows", [None, np.array([-1, 1, 3, -(2**31), 2**31 - 1], np.int32)])
def test_any_count_and_row_is_within_bounds(rows: Array | None, found: int) -> None:
    logits = np.ones((3, 4, 4), np.float32)
    taken = (take(logits, rows, found) == 1).all(axis=(1, 2)).tolist()
    assert taken == [found > 0 and (rows is None or k == 1) for k in range(3)]
