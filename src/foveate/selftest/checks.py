# SPDX-License-Identifier: Apache-2.0
"""The checks of a step, run one after the other, with a record of each in a file.

The record is complete up to the check that ends the process, whatever ends it.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

from foveate.errors import FoveateError
from foveate.runtime.engines.engine import NoPlanError

Status: TypeAlias = Literal["passed", "failed", "not tried"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a check that did not fail found.

    Args:
        difference: Largest absolute difference from the expected values, if it compared any.
        facts: Other figures for the report: numbers and short texts.
    """

    difference: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check in the report.

    Args:
        name: Name of the check.
        status: Its result.
        seconds: Time that it took.
        difference: See :class:`Outcome`.
        facts: See :class:`Outcome`.
        reason: Why it failed or was not tried.
    """

    name: str
    status: Status
    seconds: float = 0.0
    difference: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class WrongResultError(Exception):
    """A check found a wrong result."""


class NotTriedError(Exception):
    """A check cannot be tried on this machine."""


Checks: TypeAlias = dict[str, Callable[[], Outcome]]


def record_checks(checks: Checks, path: Path) -> None:
    """Run checks, and write a line of JSON at the beginning and at the end of each."""
    with path.open("w", encoding="utf-8") as file:
        for name, check in checks.items():
            _write(file, {"begin": name})
            _write(file, asdict(_run(name, check)))


def read_checks(path: Path, ending: str) -> list[Check]:
    """Read what :func:`record_checks` wrote, and add a failed check if its process did not succeed.

    Args:
        path: File with the lines.
        ending: How the process ended, such as ``"ended by SIGABRT"``; nothing if it succeeded.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    checks = [Check(**line) for line in lines if "name" in line]
    if ending:
        last = lines[-1] if lines else {"begin": "start of the process"}
        name = last.get("begin", "end of the process")
        checks.append(Check(name=name, status="failed", reason=ending))
    return checks


def _run(name: str, check: Callable[[], Outcome]) -> Check:
    started, outcome = time.monotonic(), Outcome()
    status: Status = "failed"
    try:
        outcome, status, reason = check(), "passed", ""
    except (NotTriedError, NoPlanError) as error:  # a bundle may have no plan for this size
        status, reason = "not tried", str(error)
    except (WrongResultError, FoveateError) as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - the report shows every error
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
    seconds = round(time.monotonic() - started, 3)
    return Check(name=name, status=status, seconds=seconds, reason=reason, **asdict(outcome))


def _write(file: TextIO, line: dict[str, Any]) -> None:
    file.write(json.dumps(line, default=str) + "\n")
    file.flush()
