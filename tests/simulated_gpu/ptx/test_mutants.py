# SPDX-License-Identifier: Apache-2.0
"""The committed report on mutants, which `python -m tests.simulated_gpu.ptx.mutants` writes and goes on with."""

from __future__ import annotations

from pathlib import Path

from tests.simulated_gpu.ptx.mutants import read

REPORT = Path(__file__).with_name("mutants.json")


def test_most_mutants_turn_a_test_red_and_survivors_have_a_reason() -> None:
    lived = [mutant for mutant in read(REPORT) if mutant.fate != "stillborn"]
    survivors = [mutant for mutant in lived if mutant.fate == "survived"]
    assert all(mutant.reason for mutant in survivors)
    real = [mutant for mutant in lived if not mutant.reason.startswith("equivalent")]
    killed = [mutant for mutant in real if mutant.fate.startswith("killed")]
    assert len(real) >= 200
    assert len(killed) >= 0.95 * len(real)
