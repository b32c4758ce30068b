# SPDX-License-Identifier: Apache-2.0
"""Running each step of the self-test in a process of its own, with a limit of its time."""

from __future__ import annotations

import getpass
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from foveate import __version__
from foveate.selftest.checks import Check, Status, read_checks
from foveate.selftest.plan import STEPS

SCHEMA = 1

_LOG_CHARACTERS = 4000
_PACKAGES = (
    *("numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "torch", "pycuda"),
    *("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
    *("tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx-cu13", "tensorrt-lean-cu13"),
)
# Directories of an absolute path, but not of an address on the web.
_DIRECTORIES = re.compile(r"(?<![\w.:/])~?/(?:[^/\s:'\"]+/)+")


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Result of a step.

    Args:
        name: Name of the step.
        status: ``"failed"`` if a check failed, and ``"not tried"`` if none was tried.
        seconds: Time that its process took.
        checks: Its checks.
        log: End of what its process printed, without paths and names of users.
    """

    name: str
    status: Status
    seconds: float = 0.0
    checks: tuple[Check, ...] = ()
    log: str = ""

    def summary(self) -> str:
        """Return the name, the number of checks, the time and the largest difference on one line."""
        if not self.checks:
            return f"{self.name}, since the step 'driver' did not pass"
        passed = sum(check.status == "passed" for check in self.checks)
        differences = [one.difference for one in self.checks if one.difference is not None]
        largest = f", largest difference {max(differences):.3g}" if differences else ""
        counts = f"{passed} of {len(self.checks)} checks passed"
        return f"{self.name}: {counts} in {self.seconds:.1f} s{largest}"

    def reasons(self) -> dict[str, list[str]]:
        """Return why checks failed or were not tried, each reason with the names of its checks."""
        found: dict[str, list[str]] = {}
        for check in self.checks:
            if check.status != "passed":
                found.setdefault(f"{check.status}: {check.reason}", []).append(check.name)
        return found


def run_steps(bundle: str) -> Iterator[StepResult]:
    """Run all steps one after the other; without a working driver, only the first one.

    Args:
        bundle: Name or directory of the bundle whose networks are run.
    """
    works = True
    for name in STEPS:
        if works:
            result = run_step(name, bundle)
            works = name != "driver" or result.status == "passed"
        else:
            result = StepResult(name=name, status="not tried")
        yield result


def run_step(name: str, bundle: str) -> StepResult:
    """Run a step in a process of its own."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        record, log = Path(folder) / "record", Path(folder) / "log"
        command = [sys.executable, "-m", "foveate.selftest", name, str(record), bundle]
        with log.open("wb") as output:
            ending = end_of(command, output.fileno(), STEPS[name].limit_s)
        checks = [_anonymous(check) for check in read_checks(record, ending)]
        tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]
    return StepResult(
        name=name,
        status=_status_of(checks),
        seconds=round(time.monotonic() - started, 3),
        checks=tuple(checks),
        log=anonymous(tail),
    )


def report_of(results: list[StepResult]) -> dict[str, Any]:
    """Return the report of all steps: versions and results, without paths, names of users or images."""
    versions = {"foveate": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "schema": SCHEMA,
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "versions": versions,
        "steps": [asdict(result) for result in results],
    }


def anonymous(text: str) -> str:
    """Return a text with directories, and names of the user and the machine, left out."""
    text = _DIRECTORIES.sub(".../", text.replace(str(Path.home()), "~"))
    for name, stand_in in ((_user(), "<user>"), (platform.node(), "<machine>")):
        if len(name) > 2:
            text = re.sub(rf"\b{re.escape(name)}\b", stand_in, text)
    return text


def end_of(command: list[str], output: int, limit_s: float) -> str:
    """Run a command to its end, and return how it ended; nothing if it succeeded."""
    # A session of its own: what the process started is ended with it.
    with subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as process:
        try:
            code = process.wait(limit_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"the process did not end within {limit_s:g} seconds"
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with status {code}" if code else ""


def _status_of(checks: list[Check]) -> Status:
    statuses = {check.status for check in checks}
    if "failed" in statuses:
        return "failed"
    return "passed" if "passed" in statuses else "not tried"


def _anonymous(check: Check) -> Check:
    facts = {k: anonymous(v) if isinstance(v, str) else v for k, v in check.facts.items()}
    return replace(check, facts=facts, reason=anonymous(check.reason))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user of a container may have no name
        return ""
