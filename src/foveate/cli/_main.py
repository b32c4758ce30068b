# SPDX-License-Identifier: Apache-2.0
"""The process of the command: its signals, streams and exit status."""

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from math import inf

from foveate.cli._console import close_streams, open_streams, print_thread_error
from foveate.cli._interruption import (
    Interrupted,
    exit_interrupted,
    install_handlers,
    restore_handlers,
)
from foveate.system.resources import cpu_quota, usable_cores


def main() -> None:
    """Run the command that the arguments of this process name, and exit."""
    open_streams()
    try:
        # Before the imports of the command, which take the first tenths of a second.
        install_handlers()
        if cpu_quota() < inf:  # PyTorch and NumPy's BLAS ignore the quota
            os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
        # Pillow warns about metadata that do not matter here.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        if "--debug" not in sys.argv:
            threading.excepthook = print_thread_error
        status = invoke(sys.argv[1:])
        restore_handlers()
    except Interrupted as stop:
        exit_interrupted(stop.number)
    sys.exit(status if close_streams() else status or 1)


def invoke(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: The words after ``foveate`` on the command line.

    Returns:
        The exit status.
    """
    from foveate.cli._app import invoke_command

    return invoke_command(arguments)
