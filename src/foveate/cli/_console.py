# SPDX-License-Identifier: Apache-2.0
"""What a command says while it works."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["say", "telling"]


def say(line: str, *, aside: bool = False) -> None:
    """Write a line to stdout, or to stderr if stdout is taken."""
    stream = sys.stderr if aside else sys.stdout
    stream.write(line + "\n")
    stream.flush()


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
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def tell(line: str) -> None:
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            bar.advance(task)

        yield tell
