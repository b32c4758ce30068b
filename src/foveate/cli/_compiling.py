# SPDX-License-Identifier: Apache-2.0
"""The options that `foveate compile` and `foveate cache explain` share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.errors import OptionError

if TYPE_CHECKING:
    from foveate.export.engines import CompileOptions

Target = Annotated[str, typer.Option(help="tensorrt or tensorrt-rtx.")]
Archs = Annotated[
    list[str] | None,
    typer.Option("--arch", help="GPU to build for, such as sm_89; repeatable with tensorrt-rtx."),
]
Stages = Annotated[
    list[str] | None, typer.Option("--stage", help="Stage to compile; repeatable, all by default.")
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image-size", help="Size of images, WIDTHxHEIGHT, to make engines of fixed shapes for."
    ),
]
Buckets = Annotated[
    list[int] | None,
    typer.Option("--bucket", help="Fixed number of windows and boxes; repeatable."),
]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--range", help="Lengths of a dimension, as boxes=1:100:400 (best in the middle)."
    ),
]
Level = Annotated[
    int,
    typer.Option("--optimization-level", min=0, max=5, help="How long to look for fast kernels."),
]
Workspace = Annotated[
    int | None, typer.Option("--workspace", min=1, help="Most scratch memory of a layer, in MiB.")
]
Hardware = Annotated[
    str,
    typer.Option(
        "--hardware-compatibility",
        help="Other GPUs that may run it: none, ampere+ or same-compute-capability.",
    ),
]
Versions = Annotated[
    bool, typer.Option("--version-compatible", help="Later releases of TensorRT may run it.")
]
Strip = Annotated[bool, typer.Option("--strip-weights", help="Leave the weights out of the plan.")]
Refit = Annotated[bool, typer.Option("--refit", help="Let weights of the plan be replaced.")]
Tf32 = Annotated[
    bool, typer.Option("--tf32", help="Multiply float32 in TF32: faster, off by up to 1e-3.")
]
Timing = Annotated[
    Path | None, typer.Option("--timing-cache", help="File of measured kernels, kept up to date.")
]
Plugins = Annotated[
    Path | None, typer.Option("--plugins", help="Plugin library, as `foveate kernels build` makes.")
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Folder of engines; $FOVEATE_CACHE/engines or ~/.cache/foveate/engines."
    ),
]


def compile_options(
    *,
    target: str,
    arch: list[str] | None,
    stage: list[str] | None,
    image_size: list[str] | None,
    bucket: list[int] | None,
    ranges: list[str] | None,
    optimization_level: int,
    workspace: int | None,
    hardware_compatibility: str,
    version_compatible: bool,
    strip_weights: bool,
    refit: bool,
    tf32: bool,
    timing_cache: Path | None,
    plugins: Path | None,
) -> CompileOptions:
    """Turn what was written on the command line into options.

    Raises:
        OptionError: An image's size or a range is malformed, or options contradict each other.
    """
    from foveate.export.engines import CompileOptions

    return CompileOptions(
        target=target,
        archs=tuple(arch or ()),
        stages=tuple(stage or ()),
        image_sizes=tuple(_size(text) for text in image_size or ()),
        buckets=tuple(bucket or ()),
        ranges=dict(_range(text) for text in ranges or ()),
        optimization_level=optimization_level,
        workspace_mb=workspace,
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        strip_weights=strip_weights,
        refit=refit,
        tf32=tf32,
        timing_cache=timing_cache,
        plugins=plugins,
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise OptionError(f"{text!r} is no size of an image", remedy="write it as 640x480")
    return int(match[1]), int(match[2])


def _range(text: str) -> tuple[str, tuple[int, int, int]]:
    match = re.fullmatch(r"(\w+)=(\d+):(\d+):(\d+)", text)
    if match is None:
        raise OptionError(f"{text!r} is no range", remedy="write it as boxes=1:100:400")
    return match[1], (int(match[2]), int(match[3]), int(match[4]))
