# SPDX-License-Identifier: Apache-2.0
"""Commands that are killed at any moment leave nothing half-made, and the next run works."""

from __future__ import annotations

import pytest
from tests.kills import TARGETS, kill
from tests.samples.training import silent


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_command_that_is_killed_leaves_nothing_half_made(name: str) -> None:
    kill(TARGETS[name], times=5, seed=1, report=silent)
