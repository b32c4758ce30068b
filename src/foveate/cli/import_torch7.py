# SPDX-License-Identifier: Apache-2.0
"""``foveate import-torch7``: import a model that Torch7 saved as a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli import import_torch
from foveate.cli.import_torch import ClassNames, Output, Proposals


def command(
    model: Annotated[
        Path, typer.Argument(help=".t7 file with a DeepMask, SharpMask or MultiPathNet.")
    ],
    *,
    output: Output,
    proposals: Proposals = None,
    class_names: ClassNames = None,
) -> None:
    """Import a model of the original Torch7 code. Nothing in the file is executed."""
    from foveate.cli._files import check_outputs
    from foveate.importing import import_torch7

    check_outputs(output, inputs=(model, proposals, class_names))
    names = import_torch.read_class_names(class_names)
    imported = import_torch7(model)
    import_torch.save_checkpoint(imported, output, source=model, proposals=proposals, names=names)
