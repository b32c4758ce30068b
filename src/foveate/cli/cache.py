# SPDX-License-Identifier: Apache-2.0
"""``foveate cache``: the cache of compiled engines."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import print_line
from foveate.cli._options import BundleArgument
from foveate.cli.compile import Cache, with_compile_options
from foveate.plain_text import counted

if TYPE_CHECKING:
    from foveate.export.engines import CompileOptions

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_engines(*, cache: Cache = None) -> None:
    """List the compiled engines."""
    from foveate.export.engines import EngineCache

    engines = EngineCache(cache)
    entries = engines.entries()
    for entry in entries:
        key = entry.record.key
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        archs = " ".join(key.archs)
        print_line(
            f"{entry.digest[:12]}  {entry.record.name:24} {key.target} {key.tensorrt}  {archs}  "
            f"{entry.size / 1e6:.1f} MB  used {used}"
        )
    total = sum(entry.size for entry in entries)
    count = counted(len(entries), "engine", "engines")
    print_line(f"{count}, {total / 1e9:.2f} GB in {engines.root}")


@app.command("explain")
@with_compile_options
def explain(bundle: BundleArgument, *, options: "CompileOptions", cache: Cache = None) -> None:
    """Explain why engines of a bundle are not in the cache; takes the options of compile."""
    from foveate.bundle import Bundle
    from foveate.export.engines import EngineCache, build_requests

    engines = EngineCache(cache)
    for request in build_requests(Bundle.open(bundle), options):
        reason = engines.explain_miss(request.key)
        print_line(f"{request.name}: {'in the cache' if reason is None else reason}")


@app.command("prune")
def prune(
    *,
    max_size: Annotated[
        float, typer.Option(min=0, help="Total size of the engines to keep, in GB; 0 deletes all.")
    ] = 10.0,
    cache: Cache = None,
) -> None:
    """Delete the engines that have not been used for the longest time."""
    from foveate.export.engines import EngineCache

    deleted = EngineCache(cache).prune(int(max_size * 1e9))  # the rest fits into this size
    size = sum(entry.size for entry in deleted)
    print_line(f"{counted(len(deleted), 'engine', 'engines')} deleted, {size / 1e9:.2f} GB")
