# SPDX-License-Identifier: Apache-2.0
"""Counts of operations against the committed budgets in ``budgets.json``.

A count does not depend on how busy the machine is, so that a change that costs more fails wherever
it is tested. A change that costs less fails as well, until its gain is written down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("budgets.json")
COMMAND = "make budgets"

# Largest change in either direction, as a share of the budget; other units are exact.
TOLERANCES = {"instructions": 0.03, "modules": 0.1, "peak bytes": 0.05}


@dataclass(frozen=True, kw_only=True)
class Count:
    """A count of operations.

    Args:
        value: The count.
        unit: What is counted, in the plural.
        details: What was counted, for the text of a failure.
    """

    value: int
    unit: str
    details: str = ""


class Budgets:
    """The budgets of a file.

    Args:
        file: The JSON file.
        rewrite: Whether counts become the budgets, instead of being compared with them.
    """

    def __init__(self, file: Path = FILE, *, rewrite: bool = False) -> None:
        self._file, self._rewrite = file, rewrite

    def check(self, group: str, counts: Mapping[str, Count], *, versions: str = "") -> None:
        """Compare all counts of a group with their budgets.

        Args:
            group: Name of the group.
            counts: Counts by name.
            versions: What the counts depend on besides the code under test. With other versions
                than those of the budgets, the test is skipped.

        Raises:
            AssertionError: A count differs from its budget by more than the tolerance of its unit.
        """
        groups = json.loads(self._file.read_text(encoding="utf-8"))
        committed = groups.get(group, {"budgets": {}})
        same_versions = committed.get("versions", versions) == versions
        budgets = committed["budgets"]
        if self._rewrite:
            # Budgets that hold stay, so that the file changes only where something did.
            kept = budgets if same_versions else {}
            groups[group] = {"versions": versions} if versions else {}
            groups[group]["budgets"] = {
                name: {"budget": one.value, "unit": one.unit}
                if _verdict(one, kept.get(name))
                else kept[name]
                for name, one in counts.items()
            }
            self._file.write_text(_text(groups), encoding="utf-8")
            return
        if versions and not same_versions:
            pytest.skip(f"the budgets of {group} are for {committed['versions']}, not {versions}")
        wrong = [
            f"  {name}: {verdict}"
            for name in counts.keys() | budgets.keys()
            if (verdict := _verdict(counts.get(name), budgets.get(name)))
        ]
        if wrong:
            lines = "\n".join(sorted(wrong))
            remedy = f"If the change is meant, rewrite {self._file.name} with: {COMMAND}"
            raise AssertionError(f"budgets of {group} that do not hold:\n{lines}\n{remedy}")


def _verdict(count: Count | None, committed: Mapping[str, Any] | None) -> str:
    """Return what is wrong with a count, or with a budget that nothing counts; "" if nothing is."""
    if count is None:
        return "there is a budget, and nothing is counted"
    if committed is None:
        return f"{count.value:,} {count.unit} without a budget"
    budget, unit = committed["budget"], committed["unit"]
    difference, tolerance = count.value - budget, TOLERANCES.get(unit, 0.0)
    if unit == count.unit and abs(difference) <= tolerance * budget:
        return ""
    share = f" ({difference / budget:+.1%})" if budget else ""
    text = f"{count.value:,} {count.unit}, budget {budget:,} {unit}: {difference:+,}{share}"
    if difference < 0:
        text += ", so the budget can be lowered"
    return f"{text}; counted: {count.details}" if count.details else text


def _text(groups: Mapping[str, Any]) -> str:
    """Return groups as JSON, sorted, with one budget per line."""
    text = json.dumps(groups, indent=2, ensure_ascii=False, sort_keys=True)
    one_budget = re.compile(r'\{\s+("budget": .*?),\s+("unit": ".*?")\s+\}')
    return one_budget.sub(r"{\1, \2}", text) + "\n"
