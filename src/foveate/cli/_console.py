# SPDX-License-Identifier: Apache-2.0
"""What a command says while it works."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from foveate.cli._interruption import SIGPIPE, Interrupted
from foveate.errors import InputError
from foveate.plain_text import printable

if TYPE_CHECKING:
    import rich.progress
    import rich.table

_QUIET_SECONDS = 30.0
"""Where there is no terminal, a task that goes on says so every so often."""


class Advance(Protocol):
    """Says how far a task is."""

    def __call__(
        self, task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
    ) -> None:
        """Say it, with figures such as losses behind."""


def open_streams() -> None:
    """Put the null device where a standard stream is closed; let the others show any text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # the lowest free descriptor is the one that is missing
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - kept
        elif name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def close_streams() -> bool:
    """Say if stdout did not take every line; return whether it did."""
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if _lost:
        complain(_lost[0])
    return not _lost


def say(line: str, *, aside: bool = False) -> None:
    """Write a line to stdout, or to stderr if stdout is taken. What a terminal would obey is escaped.

    A full disk does not stop the work that lines tell of: `close_streams` reports it.

    Raises:
        Interrupted: Stdout is a pipe whose reader is gone.
    """
    if aside:
        with contextlib.suppress(OSError):  # there is no other stream
            sys.stderr.write(printable(line) + "\n")
            sys.stderr.flush()
        return
    try:
        _write(printable(line) + "\n")
    except InputError as error:
        _lost.append(error)


def complain(what: object) -> None:
    """Write an error to stderr, on one line."""
    say(f"foveate: {what}", aside=True)


def complain_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Say on one line that a library's thread ended, as TensorBoard's does on a full disk."""
    name = failed.thread.name if failed.thread else "unknown"
    what = " ".join(f"{failed.exc_type.__name__}: {failed.exc_value}".split())
    complain(f"the thread {name} ended ({what})")


def write_out(text: str) -> None:
    """Write a result to stdout.

    Raises:
        InputError: Stdout is closed or full.
        Interrupted: It is a pipe whose reader is gone.
    """
    if getattr(sys.stdout, "name", "") == os.devnull:  # see `open_streams`
        raise InputError("standard output is closed", remedy="write the result to a file")
    _write(text)


_lost: list[InputError] = []
"""What stdout did not take."""


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise Interrupted(SIGPIPE) from error
    except OSError as error:
        raise InputError(
            f"standard output cannot be written ({error.strerror})",
            remedy="make room, or send it elsewhere",
        ) from error


def show(table: rich.table.Table, *, aside: bool = False) -> None:
    """Write a table, line by line, as `say` does."""
    from rich.console import Console

    console = Console(stderr=aside, force_terminal=False, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().rstrip("\n").split("\n"):
        say(line.rstrip(), aside=aside)


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
            bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
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
