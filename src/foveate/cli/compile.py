# SPDX-License-Identifier: Apache-2.0
"""`foveate compile`: the stages of a bundle to engines of TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._compiling import (
    Archs,
    Buckets,
    Cache,
    Hardware,
    Images,
    Level,
    Plugins,
    Ranges,
    Refit,
    Stages,
    Strip,
    Target,
    Tf32,
    Timing,
    Versions,
    Workspace,
    compile_options,
)

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.export.engines import CompileOptions, Outcome


def command(
    bundle: Annotated[
        str, typer.Argument(help="A shipped bundle's name, or the path of a bundle.")
    ],
    *,
    target: Target,
    arch: Archs = None,
    stage: Stages = None,
    image_size: Images = None,
    bucket: Buckets = None,
    ranges: Ranges = None,
    optimization_level: Level = 3,
    workspace: Workspace = None,
    hardware_compatibility: Hardware = "none",
    version_compatible: Versions = False,
    strip_weights: Strip = False,
    refit: Refit = False,
    tf32: Tf32 = False,
    timing_cache: Timing = None,
    plugins: Plugins = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the engines; engines/<target> in the bundle by default."),
    ] = None,
    cache: Cache = None,
    print_trtexec: Annotated[
        bool,
        typer.Option("--print-trtexec", help="Print the commands of NVIDIA's tool, and stop."),
    ] = False,
) -> None:
    """Compile the stages of a bundle to engines of TensorRT or TensorRT for RTX."""
    from foveate.bundle import Bundle
    from foveate.cli._console import progress, say
    from foveate.cli._files import check_folder
    from foveate.export.engines import EngineCache, compile_bundle

    options = compile_options(
        target=target,
        arch=arch,
        stage=stage,
        image_size=image_size,
        bucket=bucket,
        ranges=ranges,
        optimization_level=optimization_level,
        workspace=workspace,
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        strip_weights=strip_weights,
        refit=refit,
        tf32=tf32,
        timing_cache=timing_cache,
        plugins=plugins,
    )
    opened = Bundle.open(bundle)
    folder = output or opened.root / "engines" / target
    if print_trtexec:
        _print_commands(opened, options, folder)
        return
    check_folder(folder)
    lines: list[str] = []
    try:
        with progress() as advance:
            for outcome in compile_bundle(
                opened,
                options,
                EngineCache(cache),
                output=folder,
                progress=lambda name, percent: advance(name, percent, 100),
                waiting=lambda name: say(f"{name}: another process is building it", aside=True),
            ):
                lines.append(_describe(outcome))
    finally:  # what was made before an error stays, so it is told
        for line in lines:
            say(line)


def _print_commands(bundle: Bundle, options: CompileOptions, folder: Path) -> None:
    from foveate.cli._console import say
    from foveate.export.engines import wanted_engines
    from foveate.export.engines.trtexec import trtexec_command

    for wanted in wanted_engines(bundle, options):
        plan = folder / f"{wanted.engine.name}.plan"
        say(trtexec_command(wanted.engine, wanted.onnx, plan, options, wanted.key.archs))


def _describe(outcome: Outcome) -> str:
    """Say what became of an engine, on one line."""
    record = outcome.record
    how = "from the cache"
    if outcome.why is not None:
        how = f"built in {record.seconds:.1f} s: {outcome.why}"
    archs = " ".join(record.key.archs)
    return f"{outcome.plan}  {record.plan.size / 1e6:.1f} MB  {archs}  {how}"
