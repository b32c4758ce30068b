# SPDX-License-Identifier: Apache-2.0
"""What a command says while it works."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    import rich.progress

__all__ = ["Advance", "progress", "say", "telling"]

_QUIET_SECONDS = 30.0
"""Where there is no terminal, a task that goes on says so every so often."""


class Advance(Protocol):
    """Says how far a task is."""

    def __call__(
        self, task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
    ) -> None:
        """Say it, with figures such as losses behind."""


def say(line: str, *, aside: bool = False) -> None:
    """Write a line to stdout, or to stderr if stdout is taken."""
    stream = sys.stderr if aside else sys.stdout
    stream.write(line + "\n")
    stream.flush()


@contextlib.contextmanager
def progress() -> Iterator[Advance]:
    """Yield a function that says how far each of any number of tasks is.

    It speaks on stderr, so that a result on stdout stays clean. On a terminal each task is a bar
    with a count and the time left. Elsewhere it is a line at once, every half a minute, and at the end.
    """
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import TextColumn

    with _bars(sys.stderr, TextColumn("{task.fields[figures]}")) as bars:
        tasks: dict[str, rich.progress.TaskID] = {}

        def advance(
            task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
        ) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, figures="")
            bars.update(tasks[task], completed=done, total=total, figures=_text(figures))

        yield advance


@contextlib.contextmanager
def telling(total: int, what: str, *, aside: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that tells that one piece of work is done.

    On a terminal a progress bar stays below the lines; elsewhere there are lines only.

    Args:
        total: Pieces of work.
        what: What is done, for the bar.
        aside: Write to stderr, because stdout is taken.
    """
    stream = sys.stderr if aside else sys.stdout
    if total < 2 or not stream.isatty():
        yield lambda line: say(line, aside=aside)
        return
    with _bars(stream, transient=True) as bars:
        task = bars.add_task(what, total=total)

        def tell(line: str) -> None:
            bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
            bars.advance(task)

        yield tell


def _bars(
    stream: TextIO, *extra: rich.progress.ProgressColumn, transient: bool = False
) -> rich.progress.Progress:
    """Bars with a count and the time left."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, *extra, console=Console(file=stream), transient=transient)


class _Lines:
    """An `Advance` that writes lines to stderr."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}

    def __call__(
        self, task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
    ) -> None:
        now = time.monotonic()
        # An interrupted task may begin in the middle: its speed is that of what was done since.
        start, first = self._began.setdefault(task, (now, done))
        if done < total and now - self._told.get(task, float("-inf")) < _QUIET_SECONDS:
            return
        self._told[task] = now
        words = [f"{task}: {done} of {total}"]
        if first < done < total:
            words.append(_duration((now - start) / (done - first) * (total - done)) + " left")
        say(", ".join(words) + (f"  {_text(figures)}" if figures else ""), aside=True)


def _text(figures: Mapping[str, float] | None) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in (figures or {}).items())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
