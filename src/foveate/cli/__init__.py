# SPDX-License-Identifier: Apache-2.0
"""The command ``foveate``. Each command is a module here with a function ``command``.

Only the module of the command that was asked for is imported, so that ``foveate run`` starts fast
and needs none of the extras. Exit status: 0 done; 1 the work failed, one line on stderr says why;
2 wrong usage; 130 and 143 ended by SIGINT and SIGTERM; 141 the reader of a pipe went away.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from math import inf

from foveate.cli import _console, _interruption
from foveate.system.cores import cpu_quota, usable_cores

__all__ = ["main"]


def main() -> None:
    """Run the command of this process's arguments and exit."""
    _console.open_streams()
    _interruption.watch()  # before the imports, which take the first tenths of a second
    if cpu_quota() < inf:  # PyTorch and NumPy's BLAS do not look at it
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    # Pillow warns of metadata that do not matter here.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if "--debug" not in sys.argv:
        threading.excepthook = _console.complain_of_thread
    try:
        status = invoke(sys.argv[1:])
    except _interruption.Interrupted as stop:
        _interruption.leave(stop.number)
    _interruption.forget()
    sys.exit(status if _console.close_streams() else status or 1)


def invoke(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: What follows ``foveate`` on the command line.

    Returns:
        The exit status.
    """
    from foveate.cli import _app

    return _app.invoke(arguments)
