# SPDX-License-Identifier: Apache-2.0
"""`foveate export`: a trained checkpoint to a bundle that every runtime reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["command"]


def command(
    checkpoint: Annotated[
        Path, typer.Argument(help="A .safetensors file that `foveate train` wrote.")
    ],
    *,
    output: Annotated[Path, typer.Option(help="Directory of the bundle; must not exist yet.")],
    name: Annotated[
        str | None, typer.Option(help="The bundle's name; its directory's by default.")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Windows that are refined.")] = 100,
    max_side: Annotated[
        int, typer.Option(min=16, help="Longer side that pictures are shrunk to, in pixels.")
    ] = 1024,
    portable: Annotated[
        bool, typer.Option("--portable", help="Write standard ONNX only, our functions inlined.")
    ] = False,
    with_paste: Annotated[
        bool,
        typer.Option("--with-paste", help="Add a stage that makes bits of a picture of the masks."),
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that stands there.")] = False,
) -> None:
    """Export the networks of a checkpoint to ONNX, check them, and write a bundle."""
    from foveate.export.bundle_export import ExportOptions, export_bundle
    from foveate.models.checkpoint import load_checkpoint

    options = ExportOptions(
        name=name or output.resolve().name,
        top_k=top_k,
        max_side=max_side,
        portable=portable,
        with_paste=with_paste,
    )
    bundle = export_bundle(load_checkpoint(checkpoint), output, options, overwrite=overwrite)
    console = Console(stderr=True, highlight=False)
    for file, record in bundle.manifest.files.items():
        console.print(f"{file:16} {record.size / 1e6:6.2f} MB")
    console.print(f"Bundle: {bundle.root}")
