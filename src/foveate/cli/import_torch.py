# SPDX-License-Identifier: Apache-2.0
"""``foveate import-torch``: import the weights of other PyTorch programs as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import print_line
from foveate.errors import InputError
from foveate.plain_text import printable

if TYPE_CHECKING:
    from foveate.importing import ImportedWeights

Output = Annotated[Path, typer.Option(help="Checkpoint to write (.safetensors).")]
Proposals = Annotated[
    Path | None,
    typer.Option(help="For a detector: checkpoint of the DeepMask or SharpMask to join it with."),
]
ClassNames = Annotated[
    Path | None,
    typer.Option(help="For a detector: file of its class names, one per line, no background."),
]


def command(
    weights: Annotated[Path, typer.Argument(help="File of tensors: .pth or .safetensors.")],
    *,
    output: Output,
    network: Annotated[
        str | None,
        typer.Option(
            help="For a ResNet or VGG of torchvision: network to build on it, such as "
            "deepmask-resnet50; its heads are random."
        ),
    ] = None,
    proposals: Proposals = None,
    class_names: ClassNames = None,
) -> None:
    """Import a DeepMask of foolwood/deepmask-pytorch, or torchvision weights as a trunk."""
    from foveate.cli._files import check_outputs
    from foveate.importing import import_torch
    from foveate.models.build import BUILDERS

    check_outputs(output, inputs=(weights, proposals, class_names))
    names = read_class_names(class_names)
    known = BUILDERS[network].sizes if network in BUILDERS else ()
    sizes = {"classes": len(names)} if names and "classes" in known else {}  # the head is random
    imported = import_torch(weights, network, **sizes)
    save_checkpoint(imported, output, source=weights, proposals=proposals, names=names)


def read_class_names(file: Path | None) -> tuple[str, ...] | None:
    """Return the class names of a file, which has one per line and no background."""
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = f"the class names cannot be read ({getattr(error, 'strerror', 'it is not UTF-8')})"
        remedy = "use a text file with one name per line"
        raise InputError(what, file=file, remedy=remedy) from error
    names = tuple(line.strip() for line in lines if line.strip())
    # What a checkpoint or a bundle would refuse when it is opened.
    wrong = [name for name in names if printable(name) != name or names.count(name) > 1]
    if wrong or not names:
        found = f"found {wrong[0]!r:.60}" if wrong else "found none"
        what = f"expected class names that are different and printable, {found}"
        raise InputError(what, file=file, remedy="write one name per line")
    return names


def save_checkpoint(
    imported: ImportedWeights,
    output: Path,
    *,
    source: Path,
    proposals: Path | None = None,
    names: tuple[str, ...] | None = None,
) -> None:
    """Write the checkpoint; print a summary of the import and the next step."""
    from foveate.importing import count_parameters, save_imported

    network = imported.build()
    saved = save_imported(
        imported, network, output, source=source, proposals=proposals, names=names
    )
    sizes = ", ".join(f"{name} {size}" for name, size in imported.sizes.items())
    lines = [
        f"Network:    {imported.name} ({sizes})",
        f"Parameters: {count_parameters(network):,}",
        *(f"Ignored:    {count} x {name}" for name, count in sorted(imported.ignored.items())),
        *(f"Note:       {note}" for note in imported.notes),
        f"Checkpoint: {output}",
    ]
    if saved.info.proposals is not None:
        lines.append(f"Export it:  foveate export {output} --output my-bundle")
    else:
        lines.append("This is a detector only: pass --proposals to make a complete cascade")
    for line in lines:
        print_line(line, to_stderr=True)
