# SPDX-License-Identifier: Apache-2.0
"""The steps that concern the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.selftest.checks import read_checks, record_checks
from foveate.selftest.machine import sanitizer_checks

# Like the real one, it counts failed calls of the driver, such as those of a look-up of a function
# that the driver does not have, unless it is told not to.
SANITIZER = """#!/bin/sh
case "$*" in
    *"--report-api-errors no"*) exit 0;;
    *) echo 'on CUDA API call to cuGetProcAddress_v2'; exit 1;;
esac
"""


def test_functions_that_the_driver_does_not_have_are_no_errors_of_compute_sanitizer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "compute-sanitizer"
    program.write_text(SANITIZER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    record_checks(sanitizer_checks("mini"), tmp_path / "record")
    found = {one.name: one.status for one in read_checks(tmp_path / "record", "")}
    assert found == {"memcheck": "passed", "racecheck": "passed"}
