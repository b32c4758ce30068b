# SPDX-License-Identifier: Apache-2.0
"""``foveate kernels``: the library of TensorRT plugins."""

from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._console import print_line

app = typer.Typer(no_args_is_help=True)


@app.command("build")
def build(
    *,
    architectures: Annotated[
        list[str] | None,
        typer.Option(
            "--arch",
            help="GPU to compile for, such as sm_89, or all; by default this machine's. Repeatable.",
        ),
    ] = None,
    tensorrt_include: Annotated[
        Path | None, typer.Option(help="Directory of TensorRT's headers, if they are not found.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Library to write; by default one per GPU in the user's cache."),
    ] = None,
) -> None:
    """Build the plugin library (ROI max pooling and bilinear upsampling)."""
    from foveate.cli._files import check_outputs
    from foveate.kernels.plugins import build as plugins
    from foveate.kernels.plugins.library import obtain_library

    nvcc = plugins.require_nvcc()
    headers = plugins.find_headers(tensorrt_include)
    chosen = plugins.ordered(architectures or plugins.find_architectures())
    print_line(f"{nvcc.version}, headers in {headers}, for {', '.join(chosen)}")
    if output is None:
        for one in chosen:
            print_line(str(obtain_library(one, headers)))
        return
    check_outputs(output)  # before minutes of compiling
    built = plugins.build_library(output, architectures=chosen, headers=headers, nvcc=nvcc)
    print_line(f"{built}: use it with foveate compile --plugins {built}")
