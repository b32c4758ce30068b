# SPDX-License-Identifier: Apache-2.0
"""`foveate demo`: the shipped bundle on the shipped photographs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

PHOTOGRAPHS = Path(__file__).parents[1] / "assets" / "images"


def command(
    *,
    output: Annotated[Path, typer.Option(help="Folder for the overlays.")] = Path("foveate-demo"),
    bundle: Annotated[
        str, typer.Option(help="A shipped bundle's name, or the path of a bundle.")
    ] = "mini",
) -> None:
    """Run the shipped bundle on the shipped photographs, and write overlays."""
    from foveate.cli._batch import Batch
    from foveate.cli._console import say, telling
    from foveate.cli._files import check_folder, write_jpeg
    from foveate.cli.run import describe, report_failures
    from foveate.runtime import load

    check_folder(output)
    batch = Batch([str(file) for file in sorted(PHOTOGRAPHS.glob("*.jpg"))])
    with (
        load(bundle) as pipeline,
        telling(len(batch), "Looking", aside=False) as tell,
    ):
        started = time.perf_counter()
        for file, image, detections in batch.run(pipeline):
            write_jpeg(output / f"{file.stem}-overlay.jpg", detections.draw(image))
            tell(f"{file.name}: {describe(detections)}")
        spent = time.perf_counter() - started
    say(f"{len(batch)} photographs in {spent:.1f} s. Look at the overlays in {output.resolve()}")
    report_failures(batch)
