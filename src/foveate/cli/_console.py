# SPDX-License-Identifier: Apache-2.0
"""Output of a command: lines, tables, errors and progress."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TextIO

from foveate.cli._interruption import SIGPIPE, Interrupted
from foveate.errors import InputError
from foveate.plain_text import printable
from foveate.system.loggers import redirect_logger
from foveate.system.resources import remedy_of

if TYPE_CHECKING:
    import rich.progress
    import rich.table

    from foveate.progress import Progress

# Without a terminal, a running task prints a line this often.
_SECONDS_PER_LINE = 30.0

# Errors of stdout, which `close_streams` reports.
_output_errors: list[InputError] = []


def open_streams() -> None:
    """Replace closed standard streams with the null device; let the others print any text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # the lowest free descriptor is the one that is missing
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - stays open
        elif name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def close_streams() -> bool:
    """Return whether stdout accepted every line; print an error if it did not."""
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would try again when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if _output_errors:
        print_error(_output_errors[0])
    return not _output_errors


def print_line(line: str, *, to_stderr: bool = False) -> None:
    """Print a line, with control characters escaped.

    A full disk does not stop the work that the lines describe: ``close_streams`` reports it.

    Raises:
        Interrupted: Stdout is a pipe whose reader has closed it.
    """
    if to_stderr:
        with contextlib.suppress(OSError):  # there is no other stream to report it on
            sys.stderr.write(printable(line) + "\n")
            sys.stderr.flush()
        return
    try:
        _write(printable(line) + "\n")
    except InputError as error:
        _output_errors.append(error)


def print_error(what: object) -> None:
    """Print an error to stderr, on one line."""
    print_line(f"foveate: {what}", to_stderr=True)


def show_log(name: str) -> None:
    """Print what a part of the package logs to stderr, one line each."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print_line(record.getMessage(), to_stderr=True)

    redirect_logger(name, Lines(), logging.INFO)


def print_thread_error(failed: threading.ExceptHookArgs) -> None:
    """Print one line when a library's thread fails, as TensorBoard's does on a full disk."""
    name = failed.thread.name if failed.thread else "unknown"
    what = " ".join(f"{failed.exc_type.__name__}: {failed.exc_value}".split())
    print_error(f"the thread {name} failed ({what})")


def write_stdout(text: str) -> None:
    """Write a result to stdout.

    Raises:
        InputError: Stdout is closed or full.
        Interrupted: Stdout is a pipe whose reader has closed it.
    """
    if getattr(sys.stdout, "name", "") == os.devnull:  # see `open_streams`
        raise InputError("standard output is closed", remedy="write the result to a file")
    _write(text)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise Interrupted(SIGPIPE) from error
    except OSError as error:
        what = f"standard output cannot be written ({error.strerror})"
        raise InputError(what, remedy=remedy_of(error, "redirect it elsewhere")) from error


def print_table(table: rich.table.Table, *, to_stderr: bool = False) -> None:
    """Print a table line by line, as ``print_line`` does."""
    from rich.console import Console

    console = Console(stderr=to_stderr, force_terminal=False, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().rstrip("\n").split("\n"):
        print_line(line.rstrip(), to_stderr=to_stderr)


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Yield a callback that shows the progress of any number of tasks on stderr.

    On a terminal each task has a bar with a count and the time left. Elsewhere it prints a line at
    its start, every half a minute, and at its end. Results on stdout stay clean.
    """
    if not sys.stderr.isatty():
        yield _ProgressLines()
        return
    from rich.progress import TextColumn

    with _bars(sys.stderr, TextColumn("{task.fields[figures]}")) as bars:
        tasks: dict[str, rich.progress.TaskID] = {}

        def progress(
            task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
        ) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, figures="")
            bars.update(tasks[task], completed=done, total=total, figures=_text(figures))

        yield progress


@contextlib.contextmanager
def lines_with_bar(
    total: int, task: str, *, to_stderr: bool = False
) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints a line whenever one part of the work is done.

    On a terminal a progress bar, named ``task``, stays below the lines; elsewhere there are only
    the lines. They are printed to stderr if stdout takes a result.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    if total < 2 or not stream.isatty():
        yield lambda line: print_line(line, to_stderr=to_stderr)
        return
    with _bars(stream, transient=True) as bars:
        bar = bars.add_task(task, total=total)

        def print_part(line: str) -> None:
            bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
            bars.advance(bar)

        yield print_part


def _bars(
    stream: TextIO, *extra: rich.progress.ProgressColumn, transient: bool = False
) -> rich.progress.Progress:
    """Return bars with a count and the time left."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, *extra, console=Console(file=stream), transient=transient)


class _ProgressLines:
    """A ``Progress`` that prints lines to stderr."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, int]] = {}
        self._printed: dict[str, float] = {}

    def __call__(
        self, task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
    ) -> None:
        now = time.monotonic()
        # A resumed task may start in the middle: only the parts done since then give its speed.
        start, first = self._started.setdefault(task, (now, done))
        if done < total and now - self._printed.get(task, float("-inf")) < _SECONDS_PER_LINE:
            return
        self._printed[task] = now
        parts = [f"{task}: {done} of {total}"]
        if first < done < total:
            parts.append(_duration((now - start) / (done - first) * (total - done)) + " left")
        line = ", ".join(parts) + (f"  {_text(figures)}" if figures else "")
        print_line(line, to_stderr=True)


def _text(figures: Mapping[str, float] | None) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in (figures or {}).items())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
