# SPDX-License-Identifier: Apache-2.0
"""`foveate export`: a trained checkpoint to a bundle that every runtime reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A .safetensors file that `foveate train` wrote; without --output, a bundle."
        ),
    ],
    *,
    detector: Annotated[
        Path | None,
        typer.Option(help="The checkpoint of a detector that was trained apart, to join it with."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Directory of the bundle; must not exist yet.")
    ] = None,
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
    svd: Annotated[
        str | None,
        typer.Option(
            help="Ranks of the towers' linear layers, as 1024,256 for fc6 and fc7. Less work, but "
            "not exact: measure what it costs."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that stands there.")] = False,
    triton: Annotated[
        Path | None, typer.Option(help="Write a model repository of Triton, to this directory.")
    ] = None,
    triton_engines: Annotated[
        bool,
        typer.Option("--triton-engines", help="Serve the bundle's TensorRT engines, not its ONNX."),
    ] = False,
) -> None:
    """Export the networks of a checkpoint to ONNX, check them, and write a bundle."""
    from foveate.bundle import Bundle
    from foveate.cli._console import say
    from foveate.errors import OptionError

    if output is None and triton is None:
        raise OptionError(
            "there is nothing to write", remedy="give --output BUNDLE, or a bundle and --triton DIR"
        )
    if output is None and detector is not None:
        raise OptionError("a bundle has its detector", remedy="give --detector with --output")
    if output is None and svd is not None:
        raise OptionError("a bundle has its towers", remedy="give --svd with --output")
    if output is None:
        bundle = Bundle.open(checkpoint)
    else:
        from foveate.export.bundle_export import ExportOptions, export_bundle
        from foveate.models.checkpoint import load_checkpoint

        options = ExportOptions(
            name=name or output.resolve().name,
            top_k=top_k,
            max_side=max_side,
            portable=portable,
            with_paste=with_paste,
            svd=_ranks(svd),
        )
        cascade = load_checkpoint(Path(checkpoint), detector)
        bundle = export_bundle(cascade, output, options, overwrite=overwrite)
        for file, record in bundle.manifest.files.items():
            say(f"{file:16} {record.size / 1e6:6.2f} MB", aside=True)
        say(f"Bundle: {bundle.root}", aside=True)
    if triton is not None:
        from foveate.export.triton import write_repository

        models = write_repository(bundle, triton, engines=triton_engines)
        say(f"Triton: {triton} serves {models[-1]!r} by {', '.join(models[:-1])}", aside=True)


def _ranks(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(rank) for rank in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"expected whole numbers as in 1024,256, found {text!r}", param_hint="--svd"
        ) from None
