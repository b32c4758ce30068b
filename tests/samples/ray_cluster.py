# SPDX-License-Identifier: Apache-2.0
"""Programs with Ray, and the processes that they start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.samples.paths import ROOT


class RayCluster:
    """A cluster of Ray on this machine, which the first program starts.

    Args:
        python: Interpreter with Ray.
        folder: Its directory for sockets and logs, by which its processes are known.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self._python, self._folder = python, folder
        self._programs: list[subprocess.Popen[str]] = []
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONSAFEPATH": "1",
            "RAY_TMPDIR": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # a busy machine would starve workers that are nice
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a Python program at the root of the checkout; its output goes to a file."""
        with self.log.open("w", encoding="utf-8") as stream:
            program = subprocess.Popen(
                [str(self._python), *words],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._programs.append(program)
        return program

    def run(self, *words: str) -> str:
        """Run a Python program until it ends well, and return its output."""
        status = self.start(*words).wait(timeout=300)
        output = self.log.read_text(encoding="utf-8")
        assert status == 0, output
        return output

    @property
    def log(self) -> Path:
        """File of the output of the last program."""
        return self._folder / "output.txt"

    def processes(self, name: str = "") -> list[int]:
        """Return the identifiers of its processes whose command begins with a name."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
                command = (process / "cmdline").read_bytes()
            except OSError:  # it has ended, or belongs to somebody else
                continue
            if f"RAY_TMPDIR={self._folder}\0".encode() in environment and command.startswith(
                name.encode()
            ):
                found.append(int(process.name))
        return found

    def kill(self) -> None:
        """Kill all of its processes at once, as if the machine lost its power."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        for program in self._programs:
            program.wait()


def wait_until(condition: Callable[[], object], seconds: float = 240.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition does not hold"
        time.sleep(0.02)
