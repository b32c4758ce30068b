# SPDX-License-Identifier: Apache-2.0
"""``foveate run``: find, outline and name the objects in images and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import lines_with_bar, print_error, print_line, show_log
from foveate.cli._options import (
    DEFAULT_SCORE_THRESHOLD,
    BundleOption,
    Every,
    Preset,
    Reader,
    ScoreThreshold,
    Threads,
    TileOverlap,
    Tiles,
    Timeout,
    given_options,
    parse_tiles,
)

if TYPE_CHECKING:
    from foveate.arrays import UInt8Array
    from foveate.cli._files import Batch
    from foveate.results.detections import Detections
    from foveate.runtime import Pipeline, PipelineOptions


def command(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images, or videos; directories and patterns of either; camera:N; rtsp:// and "
            "other URLs.",
            show_default=False,
        ),
    ],
    *,
    context: typer.Context,  # its object is whether --debug was given
    bundle: BundleOption = "mini",
    preset: Preset = None,
    backend: Annotated[
        str,
        typer.Option(
            help="Backend of the engines: auto, onnxruntime, torch, or on a GPU tensorrt, "
            "tensorrt-rtx or onnxruntime-tensorrt."
        ),
    ] = "auto",
    device: Annotated[
        str, typer.Option(help="Device: cpu, cuda, or auto, a GPU if one works.")
    ] = "auto",
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Number of proposals per image; by default the bundle's."),
    ] = None,
    score_threshold: ScoreThreshold = DEFAULT_SCORE_THRESHOLD,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the overlays, <name>-overlay.jpg or .webm each, or the .webm file "
            "of one video; by default foveate-results, or none if only --json or --html is given."
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            help="File of the detections, COCO for images, JSON lines for videos; - for stdout."
        ),
    ] = None,
    tiles: Tiles = "off",
    tile_overlap: TileOverlap = None,
    html: Annotated[
        Path | None,
        typer.Option(help="HTML file of a page with the images and what was found in them."),
    ] = None,
    threads: Threads = None,
    every: Every = None,
    reader: Reader = "opencv",
    timeout: Timeout = 10.0,
) -> None:
    """Find, outline and name the objects in images, or in videos, cameras and streams."""
    from foveate.cli._sources import split_sources
    from foveate.errors import OptionError
    from foveate.runtime import PipelineOptions

    images, videos = split_sources(images)
    _refuse_without_effect(context, videos)
    # --json and --html alone have none
    overlays = output or (None if json or html else Path("foveate-results"))
    options = PipelineOptions(
        preset=preset,
        top_k=top_k,
        score_threshold=score_threshold,
        tiles=parse_tiles(tiles),
        tile_overlap=tile_overlap,
        threads=threads,
        debug=bool(context.obj),
    )
    show_log("foveate.runtime")

    def open_pipeline(options: PipelineOptions = options) -> Pipeline:
        from foveate.cli._torch import load_pipeline

        return load_pipeline(bundle, device, backend, options)

    if not videos:
        _run_images(images, overlays, json, html, options, open_pipeline)
        return
    from foveate.cli._video import VideoRun, run_videos
    from foveate.video.opening import display_name

    if html is not None:
        what = f"--html takes images, found the video {display_name(videos[0])}"
        raise OptionError(what, remedy="omit --html")
    policy = None if every is None else "every" if every else "latest"
    run = VideoRun(output=overlays, json=json, policy=policy, reader=reader, timeout=timeout)
    run_videos(videos, run, open_pipeline)


def _refuse_without_effect(context: typer.Context, videos: list[str]) -> None:
    """Refuse the given options that these sources would ignore."""
    from foveate.cli._sources import is_camera_or_url
    from foveate.errors import OptionError

    if not videos and (ignored := given_options(context, ("every", "reader", "timeout"))):
        what = f"images take no {', '.join(ignored)}"
        raise OptionError(what, remedy="omit what belongs to videos")
    # With --latest, another thread reads the video, and --timeout limits the wait for it.
    waits = context.params["every"] is False or any(is_camera_or_url(video) for video in videos)
    if not waits and given_options(context, ("timeout",)):
        what = "a video file that is processed frame by frame takes no --timeout"
        raise OptionError(what, remedy="omit it, or pass a camera or a URL")


def _run_images(
    images: list[str],
    overlays: Path | None,
    json: str | None,
    html: Path | None,
    options: PipelineOptions,
    open_pipeline: Callable[[PipelineOptions], Pipeline],
) -> None:
    from foveate.cli._files import Batch, DocumentFile, OutputNames, check_outputs, describe
    from foveate.cli._interruption import on_interruption
    from foveate.cli._page import PageFile
    from foveate.results.coco import CocoDocument

    batch, to_stderr = Batch(images), json == "-"
    files = (Path(json) if json else None, html)
    check_outputs(*files, inputs=batch.files, folder=overlays)
    names = None if overlays is None else OutputNames(overlays, [*batch.files, *files])
    with (
        failures_shown(batch),
        PageFile(html, options.score_threshold) as page,
        page.recorded(open_pipeline(page.options(options))) as pipeline,
    ):
        document = CocoDocument(pipeline.bundle.manifest.class_names)
        results = DocumentFile(json, document)

        def save() -> str:
            results.finish()
            page.finish()
            done = f"{len(document)} of {len(batch)} images done"
            if not document:
                return done
            places = [f"results in {json}"] if json and not to_stderr else []
            places += [f"overlays in {overlays}"] if overlays else []
            places += [f"page in {html}"] if page.is_written else []
            return ", ".join([done, *places])

        on_interruption(save, grace=1.0)  # results are saved at any time, so it need not wait
        try:
            with lines_with_bar(len(batch), "Images", to_stderr=to_stderr) as print_part:
                for file, image, detections in page.run(batch, pipeline):
                    document.add(str(file), detections)
                    line = f"{file}: {describe(detections)}"
                    if names is not None:
                        target = names.next(file, "-overlay.jpg")
                        line += _write_overlay(target, image, detections, file, batch)
                    results.update()
                    print_part(line)
            results.finish(complete=True)
        finally:
            results.finish()
    if page.is_written:
        print_line(f"The page is {html}", to_stderr=to_stderr)
    report_failures(batch)


def _write_overlay(
    target: Path, image: UInt8Array, detections: Detections, file: Path, batch: Batch
) -> str:
    """Write an overlay, and return the end of the line about its image; a failure is recorded."""
    from foveate.errors import FoveateError
    from foveate.results.saving import write_overlay

    try:
        write_overlay(target, detections.draw(image))
    except (FoveateError, MemoryError) as error:  # the results of the image are kept
        batch.fail(file, error)
        return ""
    return f" -> {target}"


@contextmanager
def failures_shown(batch: Batch) -> Iterator[None]:
    """Print the images that failed, if an error ends the work on a batch."""
    from foveate.errors import FoveateError

    try:
        yield
    except FoveateError:
        _print_failures(batch)
        raise


def report_failures(batch: Batch) -> None:
    """Print the images that failed, if any, and exit with status 1."""
    _print_failures(batch)
    if batch.failures:
        raise typer.Exit(1)


def _print_failures(batch: Batch) -> None:
    for failure in batch.failures:
        print_error(failure)
    if batch.failures and len(batch) > 1:
        print_error(f"{len(batch.failures)} of {len(batch)} images failed")
