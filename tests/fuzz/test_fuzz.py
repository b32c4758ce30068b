# SPDX-License-Identifier: Apache-2.0
"""The fuzz harness detects every way in which a case can fail."""

from __future__ import annotations

from tests.fuzz.harness import run


def outcomes(name: str, cases: int = 1) -> list[str]:
    return [case.outcome for case in run("planted", name=name, cases=cases)]


def test_a_case_passes_if_it_returns_or_raises_a_foveate_error() -> None:
    assert outcomes("returns") == ["done"]
    assert outcomes("refuses") == ["refused"]


def test_another_error_fails_and_the_next_case_runs() -> None:
    assert outcomes("breaks", cases=3) == ["failed", "failed", "failed"]


def test_a_crash_fails_and_the_next_case_runs() -> None:
    assert outcomes("crashes", cases=2) == ["crash", "crash"]


def test_a_hang_fails_and_the_next_case_runs() -> None:
    # The first case of a child includes imports and has more time, so only the second one hangs.
    assert outcomes("hangs", cases=3) == ["done", "hang", "done"]


def test_a_case_that_takes_more_memory_than_allowed_fails() -> None:
    assert outcomes("eats") == ["memory"]


def test_the_output_of_libraries_is_recorded() -> None:
    (case,) = run("planted", name="prints", cases=1)
    assert case.printed == "warning: premature end\n"
