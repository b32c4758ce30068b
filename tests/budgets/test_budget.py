# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.budgets.budget import FILE, Budgets, Count

WAITS = Count(value=2, unit="calls")
COMMITTED = {
    "an image": {
        "budgets": {
            "waits": {"budget": 2, "unit": "calls"},
            "work": {"budget": 1000, "unit": "instructions"},
        },
        "versions": "Python 3.11",
    }
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "budgets.json"
    path.write_text(json.dumps(COMMITTED))
    return path


def work(value: int) -> dict[str, Count]:
    return {"waits": WAITS, "work": Count(value=value, unit="instructions")}


@pytest.mark.parametrize("value", [970, 1000, 1030])
def test_counts_within_the_tolerance_hold(file: Path, value: int) -> None:
    Budgets(file).check("an image", work(value), versions="Python 3.11")


def test_a_failure_names_the_budget_the_difference_and_the_command(file: Path) -> None:
    counts = work(1000) | {"waits": Count(value=3, unit="calls", details="cuEventSynchronize x 3")}
    with pytest.raises(AssertionError) as caught:
        Budgets(file).check("an image", counts)
    assert str(caught.value) == (
        "budgets of an image that do not hold:\n"
        "  waits: 3 calls, budget 2 calls: +1 (+50.0%); counted: cuEventSynchronize x 3\n"
        "If the change is meant, rewrite budgets.json with: make budgets"
    )


def test_a_gain_beyond_the_tolerance_asks_for_a_lower_budget(file: Path) -> None:
    with pytest.raises(AssertionError, match=r"-31 \(-3.1%\), so the budget can be lowered"):
        Budgets(file).check("an image", work(969))


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"waits": WAITS}, "work: there is a budget, and nothing is counted"),
        (work(1000) | {"copies": WAITS}, "copies: 2 calls without a budget"),
        (work(1000) | {"waits": Count(value=2, unit="bytes")}, "waits: 2 bytes, budget 2 calls"),
    ],
)
def test_counts_and_budgets_are_of_the_same_things(
    file: Path, counts: dict[str, Count], text: str
) -> None:
    with pytest.raises(AssertionError, match=text):
        Budgets(file).check("an image", counts)


def test_a_group_without_budgets_fails(file: Path) -> None:
    with pytest.raises(AssertionError, match="waits: 2 calls without a budget"):
        Budgets(file).check("a video", {"waits": WAITS})


def test_budgets_of_other_versions_are_not_compared(file: Path) -> None:
    reason = "the budgets of an image are for Python 3.11, not Python 3.12"
    with pytest.raises(pytest.skip.Exception, match=reason):
        Budgets(file).check("an image", work(9999), versions="Python 3.12")


def test_rewritten_budgets_hold_and_leave_other_groups_alone(file: Path) -> None:
    video = {"waits": Count(value=7, unit="calls")}
    Budgets(file, rewrite=True).check("a video", video)
    Budgets(file).check("a video", video)
    Budgets(file).check("an image", work(1000), versions="Python 3.11")


def test_a_rewritten_budget_that_holds_stays(file: Path) -> None:
    changed = work(1020) | {"waits": Count(value=3, unit="calls")}
    Budgets(file, rewrite=True).check("an image", changed, versions="Python 3.11")
    budgets = json.loads(file.read_text())["an image"]["budgets"]
    assert budgets["work"] == {"budget": 1000, "unit": "instructions"}
    assert budgets["waits"] == {"budget": 3, "unit": "calls"}


def test_the_committed_file_is_as_the_command_writes_it(tmp_path: Path) -> None:
    copy = tmp_path / "budgets.json"
    copy.write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
    groups = json.loads(copy.read_text(encoding="utf-8"))
    name, group = next(iter(groups.items()))
    counts = {
        key: Count(value=one["budget"], unit=one["unit"]) for key, one in group["budgets"].items()
    }
    Budgets(copy, rewrite=True).check(name, counts, versions=group.get("versions", ""))
    assert copy.read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8")
