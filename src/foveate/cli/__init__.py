# SPDX-License-Identifier: Apache-2.0
"""The command ``foveate``. Each command is a module here with a function ``command``.

Only the module of the command that was asked for is imported, so that ``foveate run`` starts fast
and needs none of the extras. Exit status: 0 done; 1 the work failed, one line on stderr says why;
2 wrong usage.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module
from math import inf
from typing import Annotated

import typer

from foveate import __version__
from foveate.cores import cpu_quota, usable_cores
from foveate.errors import FoveateError, InputError, MissingExtraError

__all__ = ["main"]

COMMANDS = {
    "run": "Find, outline and name the objects in pictures.",
    "demo": "Run the shipped bundle on the shipped photographs.",
    "doctor": "Say what works here, by trying it, and how to get the rest.",
    "export": "Export a checkpoint to a bundle.",
    "compile": "Compile a bundle to engines of TensorRT.",
    "verify": "Compare a bundle with PyTorch on real pictures, layer by layer if asked.",
    "inspect": "Say what is in a bundle, what runs it, and in which precision.",
    "cache": "List, explain or delete compiled engines.",
    "kernels": "Build the TensorRT plugins.",
    "evaluate": "Measure a bundle on a data set.",
    "train": "Train the networks.",
    "import-torch7": "Import a model of the original code.",
    "import-torch": "Import weights of PyTorch programs.",
}
# Optional modules, and the extra that brings them to a command.
_EXTRAS = {
    "export": ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors"),
    "train": ("torch", "safetensors", "scipy"),
}
# The disk is full, a file is larger than may be, a quota is used up.
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def main() -> None:
    """Run the command of this process's arguments and exit."""
    if cpu_quota() < inf:  # PyTorch and NumPy's BLAS do not look at it
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    # Pillow warns of metadata that do not matter here.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if not _take_debug(sys.argv[1:])[1]:
        threading.excepthook = _tell_of_thread
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: What follows ``foveate`` on the command line.

    Returns:
        The exit status.
    """
    words, debug = _take_debug(arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        build_app(chosen)(words, prog_name="foveate")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # every error becomes one line, unless the user wants more
        if debug:
            raise
        sys.stderr.write(f"foveate: {_explain(error, chosen)}\n")
        return 1
    return 0


def build_app(chosen: str | None) -> typer.Typer:
    """Build the application; only the chosen command is imported, the others are named."""
    app = typer.Typer(
        help="Finds, outlines and names every object in a picture.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for name, summary in COMMANDS.items():
        if name == chosen:
            module = import_module(f"foveate.cli.{name.replace('-', '_')}")
            app.command(name)(module.command)
        else:
            app.command(name, help=summary)(_named_only)
    return app


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"foveate {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_tell_version
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="With any command: show where an error comes from.")
    ] = False,
) -> None:
    del version, debug  # the one has its callback, the other is taken out of the arguments before


def _named_only() -> None:
    raise AssertionError


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out of the arguments, except after ``--``."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _explain(error: Exception, command: str | None) -> str:
    """Return what to print about an error, on one line."""
    if isinstance(error, FoveateError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return str(
            InputError(
                f"there is no room ({error.strerror})",
                file=error.filename,
                remedy="make room, and run it again",
            )
        )
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        module = error.name.partition(".")[0]
        for extra in ("train", "export") if command == "train" else ("export", "train"):
            if module in _EXTRAS[extra]:
                return str(MissingExtraError(module, extra))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this should not have happened ({what}): run it again with --debug and report it"


def _tell_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Say on one line that a library's thread ended, as TensorBoard's does on a full disk."""
    name = failed.thread.name if failed.thread else "unknown"
    what = " ".join(f"{failed.exc_type.__name__}: {failed.exc_value}".split())
    sys.stderr.write(f"foveate: the thread {name} ended ({what})\n")
