# SPDX-License-Identifier: Apache-2.0
"""``foveate demo``: run the shipped bundle on the shipped images."""

import time
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli._console import lines_with_bar, print_line
from foveate.cli._options import BundleOption, Preset

IMAGES = Path(__file__).parents[1] / "assets" / "images"


def command(
    *,
    output: Annotated[
        Path, typer.Option(help="Directory of the overlays and of the page, index.html.")
    ] = Path("foveate-demo"),
    bundle: BundleOption = "mini",
    preset: Preset = None,
) -> None:
    """Run the shipped bundle on the shipped images, and write overlays and a page."""
    from foveate.cli._files import Batch, check_outputs, describe
    from foveate.cli._page import PageFile
    from foveate.cli.run import report_failures
    from foveate.results.saving import write_overlay
    from foveate.runtime import PipelineOptions, load

    page_file, options = output / "index.html", PipelineOptions(preset=preset)
    check_outputs(page_file, folder=output)
    batch = Batch([str(file) for file in sorted(IMAGES.glob("*.jpg"))])
    with (
        PageFile(page_file, options.score_threshold) as page,
        page.recorded(load(bundle, options=page.options(options))) as pipeline,
        lines_with_bar(len(batch), "Images") as print_part,
    ):
        started = time.perf_counter()
        for file, image, detections in page.run(batch, pipeline):
            write_overlay(output / f"{file.stem}-overlay.jpg", detections.draw(image))
            print_part(f"{file.name}: {describe(detections)}")
        seconds = time.perf_counter() - started
    print_line(f"{len(batch)} images in {seconds:.1f} s. The overlays are in {output.resolve()}")
    print_line(f"See the results in a browser: {page_file.resolve()}")
    report_failures(batch)
