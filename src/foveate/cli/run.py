# SPDX-License-Identifier: Apache-2.0
"""`foveate run`: find, outline and name the objects in pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.scores import MIN_SCORE

if TYPE_CHECKING:
    from foveate.cli._batch import Batch
    from foveate.detections import Detections

__all__ = ["command", "describe", "report_failures"]


def command(
    pictures: Annotated[
        list[str], typer.Argument(help="Pictures, and folders of pictures.", show_default=False)
    ],
    *,
    bundle: Annotated[
        str, typer.Option(help="A shipped bundle's name, or the path of a bundle.")
    ] = "mini",
    backend: Annotated[
        str, typer.Option(help="What runs the engines: auto, onnxruntime or onnxruntime-cuda.")
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="Where the work between the engines is done: auto or host.")
    ] = "auto",
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Proposals a picture; the bundle says how many.")
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Smallest score of what is shown.")
    ] = MIN_SCORE,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the overlays, <name>-overlay.jpg each; foveate-results by default, "
            "and none with --json alone."
        ),
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="COCO file for what was found; - for stdout.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; all cores by default.")
    ] = None,
) -> None:
    """Find, outline and name the objects in pictures."""
    from foveate.cli._batch import Batch
    from foveate.cli._coco import CocoDocument
    from foveate.cli._console import telling
    from foveate.cli._files import OutputNames, write_aside, write_jpeg
    from foveate.runtime import Options, load

    batch, names, aside = Batch(pictures), OutputNames(), json == "-"
    overlays = output or (None if json else Path("foveate-results"))
    options = Options(top_k=top_k, min_score=min_score, threads=threads)
    with load(bundle, device=device, backend=backend, options=options) as pipeline:
        document = CocoDocument(pipeline.bundle.manifest.class_names)
        with telling(len(batch), "Looking", aside=aside) as tell:
            for file, picture, detections in batch.run(pipeline):
                document.add(str(file), detections)
                line = f"{file}: {describe(detections)}"
                if overlays is not None:
                    target = overlays / names.next(file, "-overlay.jpg")
                    write_jpeg(target, detections.draw(picture))
                    line += f" -> {target}"
                tell(line)
    if json == "-":
        sys.stdout.write(document.to_json())
    elif json is not None and len(document):
        write_aside(Path(json), document.to_json().encode())
    report_failures(batch)


def describe(detections: Detections) -> str:
    """Say in a few words what was found."""
    some = [f"{one.name} {one.score:.2f}" for one in detections[:6]]
    rest = [f"and {len(detections) - 6} more"] if len(detections) > 6 else []
    return ", ".join([*some, *rest]) or "nothing found"


def report_failures(batch: Batch) -> None:
    """List the pictures that could not be done, if any, and end with status 1."""
    if not batch.failures:
        return
    for failure in batch.failures:
        sys.stderr.write(f"foveate: {failure}\n")
    total = len(batch)
    if total > 1:
        sys.stderr.write(f"foveate: {len(batch.failures)} of {total} pictures failed\n")
    raise typer.Exit(1)
