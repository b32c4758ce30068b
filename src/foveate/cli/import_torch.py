# SPDX-License-Identifier: Apache-2.0
"""`foveate import-torch`: weights of PyTorch programs to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._files import check_output
from foveate.cli._imported import ClassNames, Proposals, read_class_names, save_and_tell


def command(
    weights: Annotated[
        Path, typer.Argument(help="A .pth file of tensors only, or a .safetensors file.")
    ],
    *,
    output: Annotated[Path, typer.Option(help="The checkpoint to write, a .safetensors file.")],
    network: Annotated[
        str | None,
        typer.Option(
            help="For torchvision's ResNet or VGG: what to build on it, such as deepmask-resnet50. "
            "Its heads are random."
        ),
    ] = None,
    proposals: Proposals = None,
    class_names: ClassNames = None,
) -> None:
    """Import a DeepMask of foolwood/deepmask-pytorch, or torchvision's weights as a trunk."""
    from foveate.importing import import_torch

    check_output(output, (weights, proposals, class_names))
    names = read_class_names(class_names)
    sizes = {} if names is None else {"classes": len(names)}
    found = import_torch(weights, network, **sizes)
    save_and_tell(found, output, source=weights, proposals=proposals, names=names)
