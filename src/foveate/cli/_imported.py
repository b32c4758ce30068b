# SPDX-License-Identifier: Apache-2.0
"""What the two importing commands share: options, names of classes, and their last words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.importing import ImportedWeights

Proposals = Annotated[
    Path | None,
    typer.Option(help="For a detector: the checkpoint of a DeepMask or SharpMask to join."),
]
ClassNames = Annotated[
    Path | None,
    typer.Option(help="For a detector: names of its classes, one a line, no background."),
]


def read_class_names(file: Path | None) -> tuple[str, ...] | None:
    """Read one name a line, without background."""
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the class names cannot be read", file=file, remedy="give a text file, a name a line"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def save_and_tell(
    weights: ImportedWeights,
    output: Path,
    *,
    source: Path,
    proposals: Path | None = None,
    names: tuple[str, ...] | None = None,
) -> None:
    """Write the checkpoint; say what was found, what was ignored, and what to do next."""
    from foveate.cli._console import say
    from foveate.importing import count_parameters, save_imported

    network = weights.build()
    made = save_imported(weights, network, output, source=source, proposals=proposals, names=names)
    sizes = ", ".join(f"{name} {size}" for name, size in weights.sizes.items())
    say(f"Network:    {weights.name} ({sizes})", aside=True)
    say(f"Parameters: {count_parameters(network):,}", aside=True)
    for name, count in sorted(weights.ignored.items()):
        say(f"Ignored:    {count} x {name}", aside=True)
    for note in weights.notes:
        say(f"Note:       {note}", aside=True)
    say(f"Checkpoint: {output}", aside=True)
    if made.info.proposals is not None:
        say(f"Export it:  foveate export {output} --output my-bundle", aside=True)
    else:
        say("It is a detector alone: give --proposals to make a cascade", aside=True)
