# SPDX-License-Identifier: Apache-2.0
"""`foveate kernels`: the library of TensorRT plugins."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Action(enum.StrEnum):
    """What is done."""

    BUILD = "build"


def command(
    action: Annotated[Action, typer.Argument(help="Build a library.")],
    *,
    arch: Annotated[
        list[str] | None,
        typer.Option(help="Architecture like sm_89, repeatable, or all; by default this GPU's."),
    ] = None,
    tensorrt_include: Annotated[
        Path | None, typer.Option(help="Folder of TensorRT's headers, if they are not found.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The library to write.")] = Path(
        "libfoveate_plugins.so"
    ),
) -> None:
    """Build the TensorRT plugins (pooling and upsampling)."""
    from foveate.cli._console import say
    from foveate.cli._files import check_output
    from foveate.kernels.plugins.build import (
        build_library,
        find_architectures,
        find_headers,
        require_nvcc,
    )

    del action  # there is one
    nvcc = require_nvcc()
    headers = find_headers(tensorrt_include)
    architectures = arch or find_architectures()
    say(f"{nvcc.version}, headers in {headers}, for {', '.join(architectures)}")
    check_output(output)
    built = build_library(output, architectures=architectures, headers=headers, nvcc=nvcc)
    say(f"{built}: use it with foveate compile --plugins {built}")
