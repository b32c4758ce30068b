# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import getpass
import json
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from foveate.selftest import supervision
from foveate.selftest.checks import Check
from foveate.selftest.plan import STEPS
from foveate.selftest.supervision import (
    StepResult,
    anonymous,
    end_of,
    report_of,
    run_step,
    run_steps,
)


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("pass", ""),
        ("import sys; sys.exit(3)", "the process ended with status 3"),
        ("import os; os.abort()", "the process was ended by SIGABRT"),
        ("import time; time.sleep(60)", "the process did not end within 0.5 seconds"),
    ],
)
def test_the_end_of_a_process_is_described(tmp_path: Path, code: str, ending: str) -> None:
    with (tmp_path / "log").open("wb") as log:
        assert end_of([sys.executable, "-S", "-c", code], log.fileno(), 0.5) == ending


def test_a_process_that_a_step_started_is_ended_with_it(tmp_path: Path) -> None:
    inner = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with (tmp_path / "log").open("wb") as log:
        end_of([sys.executable, "-S", "-c", code], log.fileno(), 1)
    deadline = time.monotonic() + 10
    while runs(f"-c\0{inner}\0"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(arguments: str) -> bool:
    """Return whether a process has these last arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may end at any moment
            if path.read_text().endswith(arguments):
                return True
    return False


def test_without_a_gpu_the_first_step_fails_and_the_others_are_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def fail(name: str, _: str) -> StepResult:
        tried.append(name)
        return StepResult(name=name, status="failed")

    monkeypatch.setattr(supervision, "run_step", fail)
    results = list(run_steps("mini"))
    assert [one.name for one in results] == list(STEPS)
    assert tried == ["driver"]
    assert {one.status for one in results[1:]} == {"not tried"}
    assert results[1].summary() == "kernels, since the step 'driver' did not pass"


def test_a_bundle_that_is_not_there_is_a_failed_step() -> None:
    result = run_step("engines", "no-such-bundle")
    assert result.status == "failed"
    assert result.checks[0].name == "start of the process"
    assert "there is no such bundle" in result.log


def test_reports_contain_no_directories_users_or_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "build-7")
    home, user = Path.home(), getpass.getuser()
    text = f'File "{home}/secret/x.py" /opt/lib/libcuda.so.1: {home} build-7 ({user})'
    assert anonymous(text) == (
        f'File ".../x.py" .../libcuda.so.1: ~ <machine> ({"<user>" if len(user) > 2 else user})'
    )
    assert anonymous("see https://www.nvidia.com/drivers") == "see https://www.nvidia.com/drivers"


def test_a_report_has_versions_and_results() -> None:
    check = Check(name="nms, size 1", status="passed", seconds=0.1, difference=0.0)
    result = StepResult(name="operations", status="passed", seconds=1.5, checks=(check,))
    report = json.loads(json.dumps(report_of([result])))
    assert report["schema"] == 1
    assert report["versions"].keys() >= {"foveate", "python", "numpy"}
    assert report["steps"][0]["checks"][0]["difference"] == 0
    assert result.summary() == "operations: 1 of 1 checks passed in 1.5 s, largest difference 0"


def test_the_step_in_which_onnxruntime_compiles_with_tensorrt_may_take_minutes() -> None:
    assert STEPS["engines"].limit_s >= 600
