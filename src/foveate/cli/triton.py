# SPDX-License-Identifier: Apache-2.0
"""``foveate triton``: write a model repository for Triton Inference Server."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._console import print_line
from foveate.cli._options import BundleArgument


def command(
    bundle: BundleArgument,
    *,
    output: Annotated[Path, typer.Option(help="Directory of the model repository.")],
    engines: Annotated[
        bool,
        typer.Option("--engines", help="Serve the TensorRT engines of the bundle, not its ONNX."),
    ] = False,
) -> None:
    """Write a Triton model repository that serves a bundle."""
    from foveate.bundle import Bundle
    from foveate.cli._files import check_folder
    from foveate.export.triton import write_repository

    check_folder(output)
    models = write_repository(Bundle.open(bundle), output, engines=engines)
    stages = ", ".join(models[:-1])
    print_line(f"Triton: {output} serves {models[-1]!r} by {stages}", to_stderr=True)
