# SPDX-License-Identifier: Apache-2.0
"""``foveate serve``: serve a bundle over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import print_line
from foveate.cli._options import (
    DEFAULT_SCORE_THRESHOLD,
    BundleArgument,
    MaxSide,
    Preset,
    ScoreThreshold,
    Threads,
    TileOverlap,
    Tiles,
    parse_tiles,
)
from foveate.errors import OptionError

if TYPE_CHECKING:
    import socket

    from foveate.runtime import Pipeline, PipelineOptions
    from foveate.serve.options import ServeOptions
    from foveate.serve.server import Address

# Whose work --trace writes.
_TRACED_REQUESTS = 1000


def command(
    bundle: BundleArgument = "mini",
    *,
    context: typer.Context,  # its object is whether --debug was given
    host: Annotated[
        str, typer.Option(help="Address to listen at; one that others reach needs --key-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for any that is free.")] = 8000,
    workers: Annotated[
        int, typer.Option(help="Number of pipelines, which share nothing but the process.")
    ] = 1,
    slots: Annotated[
        int | None,
        typer.Option(
            help="Number of images that each pipeline processes at a time; by default 1 on the CPU, "
            "2 on a GPU."
        ),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            help="Number of requests that wait, by default as many as slots; others are refused "
            "with 429."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds until a request must be answered; else 504.")
    ] = 30.0,
    read_timeout: Annotated[
        float,
        typer.Option(help="Seconds in which headers, and then a body, must arrive; else 408."),
    ] = 10.0,
    max_connections: Annotated[
        int, typer.Option(help="Largest number of connections at a time; others get 503.")
    ] = 512,
    max_bytes: Annotated[int, typer.Option(help="Largest body in bytes.")] = 32 << 20,
    max_pixels: Annotated[int, typer.Option(help="Largest image in pixels.")] = 50_000_000,
    model: Annotated[
        str, typer.Option("--model-name", help="Name of the model in the Open Inference Protocol.")
    ] = "foveate",
    key_file: Annotated[
        Path | None,
        typer.Option(help="File with a key per line; requests need one of them as Bearer token."),
    ] = None,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let anybody who reaches the address send requests.")
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file of a certificate: TLS.")
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option(help="PEM file of its private key.")
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            help="Origin of pages that may send requests, such as https://example.org.",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="File of the work of the latest requests, written at the end."),
    ] = None,
    device: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    backend: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    threads: Threads = None,
    preset: Preset = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Number of proposals per image.")] = None,
    score_threshold: ScoreThreshold = DEFAULT_SCORE_THRESHOLD,
    max_side: MaxSide = None,
    tiles: Tiles = "off",
    tile_overlap: TileOverlap = None,
) -> None:
    """Serve a bundle over HTTP until it is interrupted."""
    from foveate.cli._files import check_outputs, write_result
    from foveate.plain_text import json_text
    from foveate.runtime import PipelineOptions
    from foveate.serve import ServeOptions, create_app
    from foveate.serve.logs import log_to_stderr
    from foveate.serve.server import LOOPBACK, Address, read_keys, run_server

    address = Address(
        host=host,
        port=port,
        certificate=None if certificate is None else str(certificate),
        certificate_key=None if certificate_key is None else str(certificate_key),
        max_connections=max_connections,
    )
    _check_access(address, key_file, no_key=no_key)
    options = ServeOptions(
        model=model,
        workers=workers,
        slots=slots,
        queue=queue,
        timeout=timeout,
        read_timeout=read_timeout,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        score_threshold=score_threshold,
        kept_requests=0 if trace is None else _TRACED_REQUESTS,
        keys=() if key_file is None else read_keys(key_file),
        hosts=() if no_key or key_file is not None else LOOPBACK,
        origins=tuple(origins or ()),
    )
    pipeline_options = PipelineOptions(
        preset=preset,
        top_k=top_k,
        max_side=max_side,
        tiles=parse_tiles(tiles),
        tile_overlap=tile_overlap,
        threads=threads,
        debug=bool(context.obj),
    )
    check_outputs(trace, inputs=(key_file, certificate, certificate_key))
    log_to_stderr(debug=bool(context.obj))
    with _open(bundle, options, pipeline_options, device, backend, address) as (pipelines, bound):
        app = create_app(pipelines, options)
        line = f"Serving {pipelines[0].bundle.manifest.name} at {address.url(bound)}"
        on_ready = partial(print_line, f"{line} (end with Ctrl-C)")
        run_server(app, address, bound, options, on_ready=on_ready)
    if trace is not None:
        write_result(trace, json_text(app.state.service.trace.document()))


def _check_access(address: Address, key_file: Path | None, *, no_key: bool) -> None:
    """Check that an address that other machines reach is not open by accident."""
    if key_file is not None and no_key:
        raise OptionError("--key-file and --no-key exclude each other", remedy="pass one of them")
    if not address.is_loopback and key_file is None and not no_key:
        raise OptionError(
            f"other machines reach {address.host}, and no key is set",
            remedy="pass --key-file FILE, or --no-key to let anybody send requests",
        )


@contextmanager
def _open(
    bundle: str,
    options: ServeOptions,
    pipeline_options: PipelineOptions,
    device: str,
    backend: str,
    address: Address,
) -> Iterator[tuple[list[Pipeline], socket.socket]]:
    """Yield open pipelines and a bound socket, of which the latter takes less time to fail."""
    from foveate.serve.pipelines import close_pipelines, open_pipelines

    with address.listen() as bound:
        pipelines = open_pipelines(
            bundle, options, pipeline_options, device=device, backend=backend
        )
        try:
            yield pipelines, bound
        finally:
            close_pipelines(pipelines)
