# SPDX-License-Identifier: Apache-2.0
"""The command ``foveate``, also as ``python -m foveate``."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command that the arguments of this process name, and exit."""
    # Ctrl-C ends the imports silently; the command has handlers of its own.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from foveate.cli import main as run_command  # noqa: PLC0415 - see above

    run_command()


if __name__ == "__main__":
    main()
