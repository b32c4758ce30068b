# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from typer.core import TyperOption

from foveate.errors import OptionError

# The default of `PipelineOptions`, whose import would delay the help texts; a test compares them.
DEFAULT_SCORE_THRESHOLD = 0.25

# A field in an error: its first word before a verb, a word before an equals sign, or with underscores.
_FIELD = re.compile(r"\A[a-z_]+(?= (?:must|needs|is) )|\b[a-z_]+(?==)|\b[a-z]+(?:_[a-z]+)+\b")

_BUNDLE_HELP = (
    "Name of a shipped bundle, path of a bundle, or its name on the Hugging Face Hub, such as "
    "hf://owner/name@v1."
)


def pin_bundle(text: str) -> str:
    """Return the name of a bundle; one on the Hub is downloaded, and named by its commit.

    A command opens its bundle several times, and the branch may advance meanwhile.
    """
    if not text.startswith("hf://"):  # without an import, for the sake of the other commands
        return text
    from foveate.bundle.hub import pin_commit
    from foveate.cli._console import show_log

    show_log("foveate.bundle")
    return pin_commit(text)


BundleArgument = Annotated[str, typer.Argument(help=_BUNDLE_HELP, callback=pin_bundle)]
BundleOption = Annotated[str, typer.Option(help=_BUNDLE_HELP, callback=pin_bundle)]
ScoreThreshold = Annotated[float, typer.Option(min=0, max=1, help="Smallest score of a detection.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Number of threads; by default one per core.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Preset of the bundle, such as fast; `foveate inspect` lists them. Other options "
        "override its values."
    ),
]
Scales = Annotated[
    str | None,
    typer.Option(
        help="Scales of the levels to use, such as 0.177,0.354,0.707,1.414; by default all of the "
        "bundle's."
    ),
]
MaxSide = Annotated[
    int | None,
    typer.Option(min=16, help="Longer side of the working image; by default the bundle's."),
]
Tiles = Annotated[
    str,
    typer.Option(
        help="Search large images tile by tile for small objects: auto, off, or the side of a tile in "
        "pixels."
    ),
]
TileOverlap = Annotated[
    int | None,
    typer.Option(
        min=0, help="Pixels that neighboring tiles share; by default a quarter of their side."
    ),
]


def parse_tiles(text: str) -> int | Literal["auto", "off"]:
    """Return the value of ``--tiles``."""
    if text in ("auto", "off"):
        return cast("Literal['auto', 'off']", text)
    try:
        return int(text)
    except ValueError as error:
        raise OptionError(
            f"--tiles must be auto, off, or the side of a tile in pixels, found {text!r:.60}",
            remedy="for example --tiles 1024",
        ) from error


Every = Annotated[
    bool | None,
    typer.Option(
        "--every/--latest",
        help="Process every frame of a video, or the latest one and drop those in between; by "
        "default every frame of a file, and the latest one of a camera or stream.",
        show_default=False,
    ),
]
Reader = Annotated[
    str, typer.Option(help="Reader of videos: opencv, or pyav, which has more codecs.")
]
Timeout = Annotated[
    float,
    typer.Option(min=0.1, help="Seconds without a frame after which a camera or URL is given up."),
]


def parse_scales(text: str | None) -> tuple[float, ...] | None:
    """Return the numbers of ``--scales``; None, or the word ``all``, stands for all levels."""
    if text is None or text == "all":
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise OptionError(
            f"--scales must be numbers with commas between them, found {text!r:.60}",
            remedy="for example --scales 0.354,0.707,1.414, or --scales all",
        ) from error


def path_or_name(text: str | Path) -> Path:
    """Return a path that distinguishes ``./mini``, a directory, from ``mini``, a shipped bundle."""
    # `Path` alone treats them as equal.
    given = os.fspath(text)
    if given.startswith("hf://"):
        from foveate.bundle import Bundle

        return Bundle.open(pin_bundle(given)).root
    return Path(given).absolute() if os.sep in given else Path(given)


def is_checkpoint(given: str | Path) -> bool:
    """Return whether a path means a checkpoint: an existing file, or a ``.safetensors`` name."""
    from foveate.bundle import is_shipped_name

    path = Path(given)
    return not is_shipped_name(os.fspath(given)) and (
        path.is_file() or path.suffix == ".safetensors"
    )


def given_names(context: typer.Context) -> set[str]:
    """Return the names of the parameters that stand on the command line."""
    return {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    }


def given_options(context: typer.Context, names: Collection[str | None]) -> list[str]:
    """Return which of the parameters stand on the command line, as the user writes them."""
    given = given_names(context)
    return [
        _written(one, context) if isinstance(one, TyperOption) else str(one.name)
        for one in context.command.params
        if one.name in given and one.name in names
    ]


def _written(option: TyperOption, context: typer.Context) -> str:
    # A switch that is off, such as --latest of --every/--latest, is written by a secondary name.
    off = context.params[str(option.name)] is False
    return (option.secondary_opts if off else option.opts)[0]


def with_flags(error: OptionError, command: Any) -> OptionError:
    """Return an error with the fields of options as the user of a command types them.

    Fields have the names of the parameters of the command, or of one of its subcommands.
    """
    commands, flags = [command], dict[str, str]()
    for one in commands:
        commands += getattr(one, "commands", {}).values()
        flags |= {
            str(each.name): each.opts[0] for each in one.params if isinstance(each, TyperOption)
        }

    def typed(text: str | None) -> str:
        return _FIELD.sub(lambda found: flags.get(found[0], found[0]), text or "")

    return OptionError(typed(error.what), file=error.file, remedy=typed(error.remedy))


def refuse_together(**given: bool) -> None:
    """Refuse options, given or not by their names without dashes, that exclude each other."""
    if sum(given.values()) > 1:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise OptionError(f"{names} exclude each other", remedy="pass only one of them")
