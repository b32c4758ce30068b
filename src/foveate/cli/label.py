# SPDX-License-Identifier: Apache-2.0
"""``foveate label``: annotate images for annotation tools, as a start for people to correct."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import lines_with_bar, print_line, show_log
from foveate.cli._options import (
    BundleOption,
    Preset,
    Threads,
    TileOverlap,
    Tiles,
    given_options,
    parse_tiles,
)
from foveate.errors import BackendError, InputError, OptionError
from foveate.plain_text import counted

if TYPE_CHECKING:
    from foveate.cli._files import Batch
    from foveate.cli._labels import LabelOutput
    from foveate.labeling import LabelOptions
    from foveate.runtime import Pipeline

_FORMATS = {"labelme": None, "coco": "annotations.json", "cvat": "annotations.xml"}


def command(
    context: typer.Context,
    images: Annotated[
        list[str], typer.Argument(help="Images, and directories of images.", show_default=False)
    ],
    *,
    format: Annotated[  # noqa: A002 - the name of the option
        str,
        typer.Option(
            help="labelme (a .json file per image), coco (one .json file with polygons) or cvat "
            "(one .xml file, 'CVAT for images 1.1')."
        ),
    ],
    what: Annotated[
        str,
        typer.Option(
            help="proposals (any object, all with one label) or detections (objects with the "
            "classes of the bundle)."
        ),
    ] = "proposals",
    output: Annotated[
        str | None,
        typer.Option(
            help="Directory of labelme's files, by default that of each image; or the file of "
            "coco or cvat, by default annotations.json or annotations.xml; - for stdout."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing labels.")
    ] = False,
    label: Annotated[str, typer.Option(help="Label of the proposals.")] = "object",
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Smallest score of an object.")
    ] = 0.25,
    max_objects: Annotated[
        int, typer.Option(min=1, help="Largest number of objects per image.")
    ] = 20,
    max_overlap: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Intersection over union with a better object above which an object is left out.",
        ),
    ] = 0.5,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, max=100, help="Largest distance between polygon and outline, in pixels."
        ),
    ] = 1.0,
    tiles: Tiles = "off",
    tile_overlap: TileOverlap = None,
    bundle: BundleOption = "mini",
    preset: Preset = None,
    device: Annotated[
        str, typer.Option(help="Device: cpu, cuda, or auto, a GPU if one works.")
    ] = "auto",
    threads: Threads = None,
) -> None:
    """Annotate images with polygons, in the files of an annotation tool, for people to correct."""
    from foveate.cli._files import Batch
    from foveate.cli.run import failures_shown, report_failures
    from foveate.labeling import LabelOptions
    from foveate.runtime import PipelineOptions, load

    _check("--format", format, tuple(_FORMATS))
    _check("--what", what, ("proposals", "detections"))
    if what == "detections" and given_options(context, ("label",)):
        remedy = "omit it; the labels of detections are the classes of the bundle"
        raise OptionError("--what detections takes no --label", remedy=remedy)
    options = LabelOptions(
        score_threshold=score_threshold,
        max_objects=max_objects,
        max_overlap=max_overlap,
        tolerance=tolerance,
        label=label,
    )
    batch = Batch(images)
    show_log("foveate.runtime")
    least = min(score_threshold, PipelineOptions().score_threshold)
    running = PipelineOptions(
        preset=preset,
        threads=threads,
        score_threshold=least,
        tiles=parse_tiles(tiles),
        tile_overlap=tile_overlap,
    )
    with failures_shown(batch), load(bundle, device=device, options=running) as pipeline:
        names = pipeline.bundle.manifest.class_names if what == "detections" else (label,)
        target = _output(batch, format, output, names, overwrite=overwrite)
        batch.failures += target.problems
        for note in target.notes:
            print_line(note, to_stderr=True)
        _label(batch, target, pipeline, options, what)
    report_failures(batch)


def _check(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise OptionError(f"{option} must be {expected}, found {value!r:.60}")


def _output(
    batch: Batch, kind: str, output: str | None, names: tuple[str, ...], *, overwrite: bool
) -> LabelOutput:
    from foveate.cli._labels import LabelDocument, LabelmeFiles, distinct

    default = _FORMATS[kind]
    files = distinct(batch.files)
    if default is None:
        if output == "-":
            what = "--output - is stdout, which takes one file, but labelme has one per image"
            raise OptionError(what, remedy="pass a directory, or another --format")
        folder = None if output is None else Path(output)
        return LabelmeFiles(files, folder, overwrite=overwrite)
    return LabelDocument(files, kind, output or default, names, overwrite=overwrite)


def _label(
    batch: Batch, target: LabelOutput, pipeline: Pipeline, options: LabelOptions, what: str
) -> None:
    """Annotate the images of an output; an image that fails does not stop the others."""
    from foveate.cli._interruption import on_interruption
    from foveate.images.reading import read_image
    from foveate.labeling import label_objects

    done = total = 0

    def save() -> str:
        target.finish()
        place = f" in {target.place()}" if done else ""
        images = counted(len(target.files), "image is", "images are")
        return f"{done} of {images} labeled{place}"

    on_interruption(save, grace=1.0)
    to_stderr = target.place() == "stdout"
    with lines_with_bar(len(target.files), "Images", to_stderr=to_stderr) as print_part:
        for file in target.files:
            try:
                image = read_image(file)
                found = pipeline.propose(image) if what == "proposals" else pipeline(image)
                objects = label_objects(found, options)
                height, width = image.shape[:2]
                target.add(file, height, width, objects)
            except (InputError, BackendError, MemoryError) as error:
                batch.fail(file, error)
                continue
            done, total = done + 1, total + len(objects)
            print_part(f"{file}: {counted(len(objects), 'object', 'objects')}")
    target.finish()
    if done:
        objects_in_all = counted(total, "object", "objects")
        numbers = f"{objects_in_all} in {counted(done, 'image', 'images')}"
        print_line(f"{numbers}: {target.place()}", to_stderr=to_stderr)
