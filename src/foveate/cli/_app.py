# SPDX-License-Identifier: Apache-2.0
"""The commands by name, and the error line of each exception."""

import errno
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer
from typer.main import get_command

from foveate import __version__
from foveate.cli._console import print_error, print_line
from foveate.cli._interruption import on_interruption
from foveate.errors import BackendError, FoveateError, InputError, MissingExtraError, OptionError
from foveate.system.loggers import loggers_restored
from foveate.system.resources import shortage

COMMANDS = {
    "run": "Find, outline and name the objects in images.",
    "label": "Annotate images for annotation tools, such as labelme and CVAT.",
    "demo": "Run the shipped bundle on the shipped images.",
    "doctor": "Check which backends work on this machine, by running them.",
    "export": "Export a checkpoint to a bundle.",
    "compile": "Compile a bundle to TensorRT engines.",
    "serve": "Serve a bundle over HTTP.",
    "triton": "Write a Triton model repository for a bundle.",
    "verify": "Compare a bundle with PyTorch on real images.",
    "inspect": "Show the contents and the precision of a bundle.",
    "cache": "List, explain or delete compiled engines.",
    "kernels": "Build the TensorRT plugins.",
    "bench": "Measure the speed of a bundle, and compare measurements.",
    "evaluate": "Measure the accuracy of a bundle on a data set.",
    "train": "Train the networks.",
    "import-torch7": "Import a model of the original Torch7 code.",
    "import-torch": "Import weights of other PyTorch programs.",
}
# Optional modules, by the extra that installs them.
_EXTRAS = {
    "export": ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors"),
    "onnx": ("onnx",),
    "train": ("torch", "safetensors", "scipy"),
    "serve": ("uvicorn",),
    "tensorrt": ("onnx",),
}
# Extras of commands that have none of their own name.
_EXTRA_OF = {"compile": "tensorrt", "cache": "tensorrt", "inspect": "onnx", "triton": "onnx"}
# Printed after an interruption: the state of the work, and how to resume it.
_AFTER_INTERRUPTION = {
    "export": "no bundle was written",
    "compile": "finished engines are in the cache, and the same command resumes from there",
    "triton": "no model repository was written",
    "verify": "no figures were written",
    "evaluate": "no figures were written",
    "bench": "nothing was measured",
    "train": "the same command resumes from the last checkpoint",
}


def invoke_command(arguments: Sequence[str]) -> int:
    """Run a command; see ``foveate.cli.invoke``."""
    words, debug = _take_debug(arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    on_interruption(lambda: _AFTER_INTERRUPTION.get(chosen or "", ""))
    try:
        _check_empty(words, chosen)
        command = get_command(build_app(chosen))  # calling the app would replace sys.excepthook
        with loggers_restored():
            command(words, prog_name="foveate", obj=debug)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # every error becomes one line, except with --debug
        if debug:
            raise
        if isinstance(error, OptionError):
            from foveate.cli._options import with_flags

            error = with_flags(error, get_command(build_app(chosen)))
        print_error(_explain(error, chosen))
        return 1
    return 0


def build_app(chosen: str | None) -> typer.Typer:
    """Build the application; only the chosen command is imported, the others are listed."""
    app = typer.Typer(
        help="Find, outline and name every object in an image.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for name, summary in COMMANDS.items():
        if name == chosen:
            module = import_module(f"foveate.cli.{name.replace('-', '_')}")
            if hasattr(module, "app"):  # a group of commands
                app.add_typer(module.app, name=name, help=summary)
            else:
                app.command(name)(module.command)
        else:
            app.command(name, help=summary)(_not_imported)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"foveate {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="With any command: show the traceback of an error, and let a GPU that stops name "
            "the kernel.",
        ),
    ] = False,
) -> None:
    del version, debug  # a callback handles the former, `_take_debug` removes the latter


def _not_imported() -> None:
    raise AssertionError


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Remove ``--debug`` from the arguments, except after ``--``."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _check_empty(words: Sequence[str], command: str | None) -> None:
    """Refuse empty arguments: an empty path would mean the current directory."""
    for before, word in zip(["", *words], words, strict=False):
        option = before if not word and before.startswith("--") and before != "--" else ""
        if word.startswith("--") and word.endswith("="):
            option = word[:-1]
        if option:
            raise OptionError(f"{option} is empty", remedy="give it a value, or omit it")
        if not word and command not in ("run", "label"):  # these process their other images
            raise OptionError("an argument is empty", remedy="give it a value")


def _explain(error: Exception, command: str | None) -> str:
    """Return the text of an error, on one line."""
    short = shortage(error)
    # The message of a backend has more detail. Otherwise the file that was being read or written
    # when memory or descriptors ran out is not at fault, so it is not named.
    if short is not None and not isinstance(error, BackendError):
        return str(short)
    if isinstance(error, FoveateError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        module = error.name.partition(".")[0]
        own = _EXTRA_OF.get(command or "", command)
        for extra in sorted(_EXTRAS, key=lambda extra: extra != own):  # the command's own first
            if module in _EXTRAS[extra]:
                return str(MissingExtraError(module, extra))
    if isinstance(error, OSError):
        what, remedy = "the system call failed", "check the path and its permissions"
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            what, remedy = "no space is left", "free some space, and run it again"
        what += f" ({error.strerror or error})"
        return str(InputError(what, file=error.filename, remedy=remedy))
    what = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return f"internal error ({what}): run it again with --debug, and report it"
