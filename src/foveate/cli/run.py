# SPDX-License-Identifier: Apache-2.0
"""`foveate run`: find, outline and name the objects in images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD

if TYPE_CHECKING:
    from foveate.cli._batch import Batch
    from foveate.results.detections import Detections


def command(
    images: Annotated[
        list[str], typer.Argument(help="Images, and folders of images.", show_default=False)
    ],
    *,
    bundle: Annotated[
        str, typer.Option(help="A shipped bundle's name, or the path of a bundle.")
    ] = "mini",
    backend: Annotated[
        str, typer.Option(help="What runs the engines: auto, onnxruntime or onnxruntime-cuda.")
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="Where the work between the engines is done: auto or cpu.")
    ] = "auto",
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Proposals an image; the bundle says how many.")
    ] = None,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Smallest score of what is shown.")
    ] = DEFAULT_SCORE_THRESHOLD,
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
    """Find, outline and name the objects in images."""
    from foveate.cli._batch import Batch
    from foveate.cli._coco import CocoFile
    from foveate.cli._console import telling
    from foveate.cli._files import OutputNames, check_folder, check_output, write_jpeg
    from foveate.cli._interruption import last_words
    from foveate.errors import FoveateError
    from foveate.results.coco import CocoDocument
    from foveate.runtime import PipelineOptions, load

    batch, aside = Batch(images), json == "-"
    overlays = output or (None if json else Path("foveate-results"))
    names = None if overlays is None else OutputNames(overlays, batch.files)
    check_folder(overlays)
    check_output(Path(json) if json else None, batch.files)
    options = PipelineOptions(top_k=top_k, score_threshold=score_threshold, threads=threads)
    with load(bundle, device=device, backend=backend, options=options) as pipeline:
        document = CocoDocument(pipeline.bundle.manifest.class_names)
        results = CocoFile(json, document)

        def interrupted() -> str:
            results.finish()
            places = [f"results in {json}"] if json and not aside else []
            places += [f"overlays in {overlays}"] if overlays else []
            return ", ".join([f"{len(document)} of {len(batch)} images done", *places])

        last_words(interrupted, grace=1.0)
        try:
            with telling(len(batch), "Looking", aside=aside) as tell:
                for file, image, detections in batch.run(pipeline):
                    document.add(str(file), detections)
                    line = f"{file}: {describe(detections)}"
                    if names is not None:
                        target = names.next(file, "-overlay.jpg")
                        try:
                            write_jpeg(target, detections.draw(image))
                            line += f" -> {target}"
                        except (FoveateError, MemoryError) as error:
                            batch.fail(file, error)
                    results.follow()
                    tell(line)
        finally:
            results.finish()
    report_failures(batch)


def describe(detections: Detections) -> str:
    """Say in a few words what was found."""
    some = [f"{one.name} {one.score:.2f}" for one in detections[:6]]
    rest = [f"and {len(detections) - 6} more"] if len(detections) > 6 else []
    return ", ".join([*some, *rest]) or "nothing found"


def report_failures(batch: Batch) -> None:
    """List the images that could not be done, if any, and end with status 1."""
    if not batch.failures:
        return
    from foveate.cli._console import complain

    for failure in batch.failures:
        complain(failure)
    total = len(batch)
    if total > 1:
        complain(f"{len(batch.failures)} of {total} images failed")
    raise typer.Exit(1)
