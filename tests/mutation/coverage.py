# SPDX-License-Identifier: Apache-2.0
"""Coverage of functions by tests, and the duration of each test.

The functions that a fixture calls count for every test that requests it, so that a shared fixture
is not credited to its first test only. A test file is run again only when it has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.mutation.mutations import PACKAGE

ROOT = PACKAGE.parents[1]
_INSIDE = f"{PACKAGE}/"


@dataclass
class Span:
    """The functions that ran in a period, and its duration.

    Args:
        functions: Source and qualified name of each function.
        seconds: Duration, except for the fixtures in ``shared``.
        shared: Seconds of the fixtures that several tests share, by their names.
    """

    functions: set[str] = field(default_factory=set)
    seconds: float = 0.0
    shared: dict[str, float] = field(default_factory=dict)


class Recorder:
    """A pytest plugin that records which functions of the package each test runs."""

    def __init__(self) -> None:
        self.tests: dict[str, Span] = {}
        self._fixtures: dict[Any, Span] = {}
        self._spans: list[Span] = []

    def _trace(self, frame: FrameType, _event: str, _argument: object) -> None:
        code = frame.f_code
        if self._spans and code.co_filename.startswith(_INSIDE):
            name = f"{code.co_filename.removeprefix(_INSIDE)}:{code.co_qualname}"
            self._spans[-1].functions.add(name)

    @contextmanager
    def _span(self) -> Iterator[Span]:
        span, began = Span(), time.monotonic()
        self._spans.append(span)
        sys.settrace(self._trace)
        threading.settrace(self._trace)
        try:
            yield span
        finally:
            sys.settrace(None)
            self._spans.pop()
            span.seconds += time.monotonic() - began
            if self._spans:
                self._spans[-1].functions |= span.functions
                sys.settrace(self._trace)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        with self._span() as span:
            value = yield
        self._fixtures[fixturedef] = span
        if fixturedef.scope != "function":
            name = f"{fixturedef.baseid} {fixturedef.argname}"
            span.shared[name] = max(span.seconds, 0.0)
            self._spans[-1].seconds -= span.seconds
        return value

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, object, object]:
        with self._span() as span:
            value = yield
        for fixtures in item._fixtureinfo.name2fixturedefs.values():
            made = self._fixtures.get(fixtures[-1], Span())
            span.functions |= made.functions
            span.shared |= made.shared
        self.tests[item.nodeid] = span
        return value

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests.pop(report.nodeid, None)


def pytest_main(arguments: list[str], *plugins: object) -> int:
    """Run tests quietly in this process."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    quiet = ["-q", "-x", "-p", "no:cacheprovider", "-o", "tmp_path_retention_policy=none"]
    # Libraries are imported before pytest, which warns that it cannot rewrite their assertions.
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*quiet, *arguments], plugins=list(plugins)))


def in_child(seconds: float, task: Any) -> int | None:
    """Run a task in a fork, and return its status, or None if it exceeds the time limit."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        status = 70
        try:
            status = task()
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class Coverage:
    """Functions and duration of each test, stored in a directory with one file per test file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spans: dict[str, Span] = {}
        self._tests: dict[str, set[str]] = {}  # by function

    def read(self, files: list[Path], limit: float = 900.0) -> None:
        """Read the coverage of test files; run those that have changed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
            kept = self._folder / f"{file.stem}-{digest}.json"
            if not kept.exists():
                in_child(limit, partial(_record, file, kept))
            if kept.exists():
                for test, (functions, seconds, shared) in json.loads(
                    kept.read_text("utf-8")
                ).items():
                    self._spans[test] = Span(set(), seconds, shared)
                    for function in functions:
                        self._tests.setdefault(function, set()).add(test)

    def tests_of(self, source: str, scope: str, seconds: float) -> list[str]:
        """Return the tests that run a function, the fastest first, within a time limit.

        The body of a class or of a module counts as run by the tests that run any of its functions.
        """
        found = self._tests.get(f"{source}:{scope}", set())
        for prefix in (f"{source}:{scope}.", f"{source}:"):
            found = found or {
                test
                for function, tests in self._tests.items()
                if function.startswith(prefix) and not function.endswith(":<module>")
                for test in tests
            }
        chosen, made = [], set[str]()
        for test in sorted(found, key=self._cost):
            span = self._spans[test]
            seconds -= span.seconds + sum(span.shared[one] for one in span.shared.keys() - made)
            if seconds < 0:
                break
            chosen.append(test)
            made |= span.shared.keys()
        return chosen

    def _cost(self, test: str) -> float:
        span = self._spans[test]
        return span.seconds + sum(span.shared.values())


def _record(file: Path, target: Path) -> int:
    recorder = Recorder()
    status = pytest_main([str(file), "--maxfail=1000"], recorder)
    tests = {t: (sorted(s.functions), s.seconds, s.shared) for t, s in recorder.tests.items()}
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps(tests), encoding="utf-8")
    temporary.replace(target)
    return status
