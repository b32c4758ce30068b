# SPDX-License-Identifier: Apache-2.0
"""The steps of ``foveate doctor --gpu-selftest`` on a GPU."""

from __future__ import annotations

import pytest

from foveate.selftest.plan import STEPS
from foveate.selftest.supervision import StepResult, run_step

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("step", STEPS)
def test_no_check_of_a_step_fails(report: list[StepResult], step: str) -> None:
    result = run_step(step, "mini")
    report.append(result)
    if result.status == "not tried":
        pytest.skip("; ".join(result.reasons()))
    assert result.status == "passed", f"{result.reasons()}\n{result.log}"
