# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from foveate.selftest.running import largest_difference


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([2.0, -math.inf], [2.25, -math.inf], 0.25),
        ([2.0, 7.0], [2.25, -math.inf], math.inf),
        ([2.0, math.nan], [2.25, 7.0], math.inf),
        ([2.0, 7.0], [2.25, math.nan], math.inf),
    ],
)
def test_every_element_of_every_array_is_compared(
    found: list[float], expected: list[float], difference: float
) -> None:
    """Infinite scores fill the places without a window, and hide no difference of the others."""
    equal = np.array([3, 4], np.int32)
    arrays = [np.array(one, np.float32) for one in (found, expected)]
    assert largest_difference([equal, arrays[0]], [equal, arrays[1]]) == difference
