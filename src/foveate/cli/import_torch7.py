# SPDX-License-Identifier: Apache-2.0
"""`foveate import-torch7`: an original model, as Torch7 saved it, to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._files import check_output
from foveate.cli._imported import ClassNames, Proposals, read_class_names, save_and_tell


def command(
    model: Annotated[
        Path, typer.Argument(help="A .t7 file with a DeepMask, SharpMask or MultiPathNet.")
    ],
    *,
    output: Annotated[Path, typer.Option(help="The checkpoint to write, a .safetensors file.")],
    proposals: Proposals = None,
    class_names: ClassNames = None,
) -> None:
    """Import a model of the original code. Nothing in the file is executed."""
    from foveate.importing import import_torch7

    check_output(output, (model, proposals, class_names))
    names = read_class_names(class_names)
    found = import_torch7(model)
    save_and_tell(found, output, source=model, proposals=proposals, names=names)
