# SPDX-License-Identifier: Apache-2.0
"""The commands by name, and the line that an error becomes."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from foveate import __version__
from foveate.cli._console import complain
from foveate.cli._interruption import last_words
from foveate.errors import BackendError, FoveateError, InputError, MissingExtraError, OptionError
from foveate.system.shortage import shortage

COMMANDS = {
    "run": "Find, outline and name the objects in images.",
    "demo": "Run the shipped bundle on the shipped photographs.",
    "doctor": "Say what works here, by trying it, and how to get the rest.",
    "export": "Export a checkpoint to a bundle.",
    "compile": "Compile a bundle to engines of TensorRT.",
    "verify": "Compare a bundle with PyTorch on real images, layer by layer if asked.",
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
# What an interruption leaves behind.
_KEPT = {
    "export": "a bundle is written whole or not at all",
    "compile": "engines that are ready stay in the cache, and the same command goes on from there",
    "verify": "no figures were written",
    "evaluate": "no figures were written",
    "train": "the same command goes on from what was last saved",
}


def invoke(arguments: Sequence[str]) -> int:
    """Run a command; see :func:`foveate.cli.invoke`."""
    words, debug = _take_debug(arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    last_words(lambda: _KEPT.get(chosen or "", ""))
    try:
        _check_empty(words, chosen)
        build_app(chosen)(words, prog_name="foveate")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # every error becomes one line, unless the user wants more
        if debug:
            raise
        complain(_explain(error, chosen))
        return 1
    return 0


def build_app(chosen: str | None) -> typer.Typer:
    """Build the application; only the chosen command is imported, the others are named."""
    app = typer.Typer(
        help="Finds, outlines and names every object in an image.",
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


def _check_empty(words: Sequence[str], command: str | None) -> None:
    """Refuse empty arguments: an empty path would mean the current folder."""
    for before, word in zip(["", *words], words, strict=False):
        option = before if not word and before.startswith("--") and before != "--" else ""
        if word.startswith("--") and word.endswith("="):
            option = word[:-1]
        if option:
            raise OptionError(f"{option} is empty", remedy="give it a value, or leave it out")
        if not word and command != "run":  # which does its other images
            raise OptionError("an argument is empty", remedy="give it a value")


def _explain(error: Exception, command: str | None) -> str:
    """Return what to print about an error, on one line."""
    short = shortage(error)
    # What a backend lacks it says in more detail. Elsewhere the file that was being read or written
    # when memory or descriptors ran out is not at fault.
    if short is not None and not isinstance(error, BackendError):
        return str(short)
    if isinstance(error, FoveateError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        module = error.name.partition(".")[0]
        for extra in ("train", "export") if command == "train" else ("export", "train"):
            if module in _EXTRAS[extra]:
                return str(MissingExtraError(module, extra))
    if isinstance(error, OSError):
        what, remedy = "the system refuses", "check the path and its permissions"
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            what, remedy = "there is no room", "make room, and run it again"
        what += f" ({error.strerror or error})"
        return str(InputError(what, file=error.filename, remedy=remedy))
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this should not have happened ({what}): run it again with --debug and report it"
