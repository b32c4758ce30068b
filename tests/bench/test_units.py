# SPDX-License-Identifier: Apache-2.0
"""Numbers with their units."""

from __future__ import annotations

import pytest

from foveate.bench.units import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (-0.5, "-500 ms"),
        (1.234e-5, "12.3 us"),
        (0.01234, "12.3 ms"),
        (0.9999, "1 s"),
        (12.345, "12.3 s"),
        (4567.0, "4567 s"),
    ],
)
def test_a_time_has_three_digits_and_a_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
