# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from foveate.errors import BackendError
from foveate.selftest.checks import (
    Check,
    Checks,
    NotTriedError,
    Outcome,
    WrongResultError,
    read_checks,
    record_checks,
)


def raising(error: BaseException) -> Checks:
    def check() -> Outcome:
        raise error

    return {"it": check}


def test_a_check_that_passes_keeps_its_difference_and_its_facts(tmp_path: Path) -> None:
    outcome = Outcome(difference=0.5, facts={"bytes": 3, "gpu": "H200"})
    record_checks({"it": lambda: outcome}, tmp_path / "record")
    (check,) = read_checks(tmp_path / "record", "")
    assert (check.name, check.status, check.reason) == ("it", "passed", "")
    assert (check.difference, check.facts) == (0.5, {"bytes": 3, "gpu": "H200"})


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (WrongResultError("too far"), "failed", "too far"),
        (NotTriedError("no TensorRT"), "not tried", "no TensorRT"),
        (BackendError("no driver", remedy="get one"), "failed", "no driver: get one"),
        (KeyError("kernel"), "failed", "KeyError: 'kernel'"),
    ],
)
def test_an_error_is_the_reason_of_a_check_and_does_not_stop_the_others(
    tmp_path: Path, error: Exception, status: str, reason: str
) -> None:
    record_checks({**raising(error), "next": Outcome}, tmp_path / "record")
    first, second = read_checks(tmp_path / "record", "")
    assert (first.status, first.reason) == (status, reason)
    assert (second.name, second.status) == ("next", "passed")


def test_the_check_that_ends_the_process_is_named(tmp_path: Path) -> None:
    checks: Checks = {"first": Outcome, **raising(SystemExit())}
    with pytest.raises(SystemExit):
        record_checks(checks, tmp_path / "record")
    first, second = read_checks(tmp_path / "record", "ended by SIGABRT")
    assert (first.name, first.status) == ("first", "passed")
    assert second == Check(name="it", status="failed", reason="ended by SIGABRT")


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    record_checks({"first": Outcome}, tmp_path / "record")
    with (tmp_path / "record").open("a") as file:
        file.write('{"begin": "sec')
    first, second = read_checks(tmp_path / "record", "ended by SIGKILL")
    assert first.status == "passed"
    assert (second.name, second.status) == ("end of the process", "failed")


def test_a_process_that_does_not_start_is_a_failed_check(tmp_path: Path) -> None:
    (check,) = read_checks(tmp_path / "record", "ended with status 1")
    assert (check.name, check.status) == ("start of the process", "failed")
