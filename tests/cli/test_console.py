# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: bars on a terminal, lines elsewhere, and nothing on stdout."""

from __future__ import annotations

import io
import sys

import pytest

from foveate.cli import _console
from foveate.cli._console import lines_with_bar, show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that advances only when a test advances it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_console, "time", clock)
    return clock


def test_a_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, bar in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stdout", stream)
        with lines_with_bar(3, "Images") as print_part:
            print_part("[a].jpg: red 0.9")
        assert "[a].jpg: red 0.9" in stream.getvalue()
        assert ("Images" in stream.getvalue()) == bar


def test_progress_on_a_terminal_is_a_bar_per_task_with_a_count_and_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with show_progress() as progress:
        progress("DeepMask", 3, 40, {"mask": 0.25})
        progress("Calibration", 7, 7)
    shown = terminal.getvalue()
    for part in ("DeepMask", "3/40", "mask 0.2500", "Calibration", "7/7", "-:--:--"):
        assert part in shown


def test_progress_elsewhere_is_a_line_at_once_every_half_a_minute_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_progress() as progress:
        for done in range(1, 101):
            progress("Evaluating", done, 100)
            clock.now += 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "Evaluating: 1 of 100",
        "Evaluating: 31 of 100, 0:01:09 left",
        "Evaluating: 61 of 100, 0:00:39 left",
        "Evaluating: 91 of 100, 0:00:09 left",
        "Evaluating: 100 of 100",
    ]


def test_the_time_left_is_computed_from_the_part_done_since_the_start(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed task starts with 9000 steps that took no time in this process."""
    with show_progress() as progress:
        progress("DeepMask", 9000, 10_000, {"loss": 0.5})
        clock.now += 40
        progress("DeepMask", 9010, 10_000, {"loss": 0.4})
    assert capsys.readouterr().err.splitlines() == [
        "DeepMask: 9000 of 10000  loss 0.5000",
        "DeepMask: 9010 of 10000, 1:06:00 left  loss 0.4000",
    ]


def test_each_task_has_its_own_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as progress:
        for task in ("DeepMask", "SharpMask"):
            progress(task, 1, 3)
            clock.now += 1
            progress(task, 2, 3)
    assert capsys.readouterr().err.splitlines() == ["DeepMask: 1 of 3", "SharpMask: 1 of 3"]
