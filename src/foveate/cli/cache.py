# SPDX-License-Identifier: Apache-2.0
"""`foveate cache`: the engines that were built before."""

from __future__ import annotations

import enum
import time
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
    Tf32,
    Timing,
    Versions,
    Workspace,
    compile_options,
)
from foveate.errors import OptionError

if TYPE_CHECKING:
    from foveate.export.engines import CompileOptions, EngineCache


class Action(enum.StrEnum):
    """What is done with the cache."""

    LIST = "list"
    EXPLAIN = "explain"
    PRUNE = "prune"


def command(
    action: Annotated[
        Action,
        typer.Argument(help="List the engines, say why a bundle's miss, or delete the oldest."),
    ],
    bundle: Annotated[
        str | None, typer.Argument(help="With explain: the bundle, and what compile was given.")
    ] = None,
    *,
    target: Annotated[
        str | None, typer.Option(help="With explain: tensorrt or tensorrt-rtx.")
    ] = None,
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
    max_size: Annotated[
        float, typer.Option(min=0, help="With prune: what may stay, in GB; 0 deletes all.")
    ] = 10.0,
    cache: Cache = None,
) -> None:
    """List the engines that were built before, say why one misses, or delete the oldest."""
    from foveate.export.engines import EngineCache

    engines = EngineCache(cache)
    if action is Action.LIST:
        _list(engines)
        return
    if action is Action.PRUNE:
        _prune(engines, max_size)
        return
    if bundle is None or target is None:
        raise OptionError(
            "explain needs a bundle and a target",
            remedy="write: foveate cache explain BUNDLE --target tensorrt-rtx",
        )
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
    _explain(engines, bundle, options)


def _list(engines: EngineCache) -> None:
    from foveate.cli._console import say

    entries = engines.entries()
    for entry in entries:
        key = entry.record.key
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        archs = " ".join(key.archs)
        say(
            f"{entry.digest[:12]}  {entry.record.name:24} {key.target} {key.tensorrt}  {archs}  "
            f"{entry.size / 1e6:.1f} MB  used {used}"
        )
    total = sum(entry.size for entry in entries)
    say(f"{len(entries)} engines, {total / 1e9:.2f} GB in {engines.root}")


def _prune(engines: EngineCache, max_size: float) -> None:
    from foveate.cli._console import say

    deleted = engines.prune(int(max_size * 1e9))
    size = sum(entry.size for entry in deleted)
    say(f"{len(deleted)} engines deleted, {size / 1e9:.2f} GB")


def _explain(engines: EngineCache, bundle: str, options: CompileOptions) -> None:
    from foveate.bundle import Bundle
    from foveate.cli._console import say
    from foveate.export.engines import wanted_engines

    for wanted in wanted_engines(Bundle.open(bundle), options):
        why = engines.explain_miss(wanted.key)
        say(f"{wanted.engine.name}: {'in the cache' if why is None else why}")
