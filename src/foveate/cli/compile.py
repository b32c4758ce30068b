# SPDX-License-Identifier: Apache-2.0
"""``foveate compile``: compile the stages of a bundle to TensorRT engines."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli._console import print_line, show_progress
from foveate.cli._options import BundleArgument
from foveate.errors import InputError, OptionError

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.export.engines import BuildResult, CompileOptions

Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Directory of the engine cache; by default $FOVEATE_CACHE/engines, or "
        "foveate/engines in $XDG_CACHE_HOME or ~/.cache.",
    ),
]


def compile_options(
    *,
    target: Annotated[str, typer.Option(help="tensorrt or tensorrt-rtx.")],
    archs: Annotated[
        list[str] | None,
        typer.Option(
            "--arch",
            help="GPU to compile for, such as sm_89; by default this machine's. Repeatable with "
            "tensorrt-rtx.",
        ),
    ] = None,
    stages: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Stage to compile; by default all. Repeatable."),
    ] = None,
    image_sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--image-size",
            help="Image size, WIDTHxHEIGHT, to make engines of fixed shapes for. Repeatable.",
        ),
    ] = None,
    max_side: Annotated[
        int | None, typer.Option(help="Longer side of the working image, if not the manifest's.")
    ] = None,
    buckets: Annotated[
        list[int] | None,
        typer.Option("--bucket", help="Fixed number of windows and boxes. Repeatable."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            help="Range of a dimension as NAME=MIN:BEST:MAX, such as boxes=1:100:400. Repeatable.",
        ),
    ] = None,
    optimization_level: Annotated[
        int, typer.Option(min=0, max=5, help="How long TensorRT searches for fast kernels.")
    ] = 3,
    workspace_mb: Annotated[
        int | None, typer.Option("--workspace", min=1, help="Scratch memory per layer, in MiB.")
    ] = None,
    hardware_compatibility: Annotated[
        str,
        typer.Option(
            help="Other GPUs that can run the engines: none, ampere+ or same-compute-capability."
        ),
    ] = "none",
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later TensorRT releases run them.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="Leave the weights out of the engines.")
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Allow the weights of the engines to be replaced.")
    ] = False,
    tf32: Annotated[
        bool,
        typer.Option(
            "--tf32", help="Use TF32 for matrix products: faster, with errors up to 1e-3."
        ),
    ] = False,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of kernel timings, which is read and updated.")
    ] = None,
    plugins: Annotated[
        Path | None,
        typer.Option(
            help="Plugin library; by default that in the user's cache, which is built if missing."
        ),
    ] = None,
    no_plugins: Annotated[
        bool,
        typer.Option("--no-plugins", help="Compile function bodies of operators, and no plugins."),
    ] = False,
) -> "CompileOptions":
    """Return the options that were given on the command line."""
    given = dict(locals())  # most are fields of `CompileOptions` by the same names
    from foveate.system.tensorrt import find_installed

    find_installed(target)  # its extra also installs what is imported next
    from foveate.export.engines import CompileOptions

    given["image_sizes"] = [_size(text) for text in image_sizes or ()]
    given["ranges"] = dict(_range(text) for text in ranges or ())
    # Options that are absent get the defaults of the dataclass.
    return CompileOptions(**{name: value for name, value in given.items() if value is not None})


def with_compile_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter ``options`` of a command with the parameters of ``compile_options``."""
    added = inspect.signature(compile_options).parameters
    parameters: dict[str, inspect.Parameter] = {}
    for name, one in inspect.signature(command).parameters.items():
        parameters |= added if name == "options" else {name: one}

    def merged(**given: Any) -> None:
        options = compile_options(**{name: given.pop(name) for name in added})
        command(**given, options=options)

    merged.__doc__ = command.__doc__
    merged.__annotations__ = {name: one.annotation for name, one in parameters.items()}
    merged.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]  # Typer reads it
    return merged


@with_compile_options
def command(
    bundle: BundleArgument,
    *,
    options: "CompileOptions",
    output: Annotated[
        Path | None,
        typer.Option(help="Directory of the engines; by default engines/<target> in the bundle."),
    ] = None,
    cache: Cache = None,
    print_trtexec: Annotated[
        bool, typer.Option("--print-trtexec", help="Print trtexec commands; compile nothing.")
    ] = False,
) -> None:
    """Compile the stages of a bundle to engines of TensorRT or TensorRT for RTX."""
    from foveate.bundle import Bundle
    from foveate.cli._files import check_folder
    from foveate.export.engines import EngineCache, compile_bundle

    opened = Bundle.open(bundle)
    folder = output or opened.root / "engines" / options.target
    if print_trtexec:
        if cache is not None:
            raise OptionError("--print-trtexec takes no --cache", remedy="omit one or the other")
        _print_commands(opened, options, folder)  # no file is written: the directory may be missing
        return
    try:
        check_folder(folder)
    except InputError as error:
        if output is not None:
            raise
        # Engines elsewhere would not be found by the pipeline.
        remedy = f"compile a copy of the bundle: cp -rL {opened.root} my-bundle"
        raise InputError(error.what, file=folder, remedy=remedy) from error
    lines: list[str] = []
    try:
        with show_progress() as progress:
            for outcome in compile_bundle(
                opened,
                options,
                EngineCache(cache),
                output=folder,
                progress=progress,
                waiting=lambda name: print_line(
                    f"{name}: waiting for another process that compiles it", to_stderr=True
                ),
            ):
                lines.append(_describe(outcome))
    finally:  # engines that were finished before an error are kept, so they are printed
        for line in lines:
            print_line(line)


def _print_commands(bundle: "Bundle", options: "CompileOptions", folder: Path) -> None:
    from foveate.export.engines import build_requests
    from foveate.export.engines.compiler import trtexec_command

    for request in build_requests(bundle, options):
        print_line(trtexec_command(request, folder / f"{request.name}.plan", options))


def _describe(outcome: "BuildResult") -> str:
    """Describe a finished engine on one line."""
    record = outcome.record
    origin = "from the cache"
    if outcome.why is not None:
        origin = f"built in {record.seconds:.1f} s: {outcome.why}"
    archs = " ".join(record.key.archs)
    return f"{outcome.plan}  {record.plan.size / 1e6:.1f} MB  {archs}  {origin}"


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise OptionError(f"expected an image size such as 640x480, got {text!r}")
    return int(match[1]), int(match[2])


def _range(text: str) -> tuple[str, tuple[int, int, int]]:
    match = re.fullmatch(r"(\w+)=(\d+):(\d+):(\d+)", text)
    if match is None:
        raise OptionError(f"expected a range such as boxes=1:100:400, got {text!r}")
    return match[1], (int(match[2]), int(match[3]), int(match[4]))
