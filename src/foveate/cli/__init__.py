# SPDX-License-Identifier: Apache-2.0
"""The command ``foveate``. Each subcommand is a module with a function ``command``.

Only the module of the chosen subcommand is imported, so that ``foveate run`` starts fast and needs
none of the extras. Exit status: 0 success; 1 the work failed, and one line on stderr explains why;
2 wrong usage; 130 and 143 ended by SIGINT and SIGTERM; 141 the reader of a pipe has closed it.
"""

from foveate.cli._main import invoke, main

__all__ = ["invoke", "main"]
