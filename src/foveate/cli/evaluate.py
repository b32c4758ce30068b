# SPDX-License-Identifier: Apache-2.0
"""``foveate evaluate``: measure accuracy on a data set, with intervals, run time and memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._console import print_line, print_table, show_progress
from foveate.cli._options import (
    BundleArgument,
    MaxSide,
    Preset,
    Scales,
    Threads,
    TileOverlap,
    Tiles,
    given_options,
)
from foveate.errors import OptionError
from foveate.plain_text import counted

if TYPE_CHECKING:
    from foveate.evaluation import Bootstrap, GroundTruth, Report
    from foveate.evaluation.measure import Task
    from foveate.runtime import Pipeline, PipelineOptions

_PROPOSALS = 1000  # the largest number that published average recall uses
# Parameters of a pipeline, which results of another program do without.
_OF_PIPELINE = (
    *("bundle", "preset", "scales", "max_side", "tiles", "tile_overlap", "checkpoint", "detector"),
    *("device", "backend", "threads", "reproduce_original"),
)


def command(
    bundle: BundleArgument = "mini",
    *,
    preset: Preset = None,
    context: typer.Context,  # its object is whether --debug was given
    dataset: Annotated[
        Path,
        typer.Option(
            help="Data set, or a part of one, in the layout of COCO, CVAT, Roboflow, labelme or "
            "recipes/mini; with --annotations, the directory of the images."
        ),
    ],
    annotations: Annotated[
        Path | None, typer.Option(help="File of the annotations, if it is not in the data set.")
    ] = None,
    proposals: Annotated[
        bool,
        typer.Option(
            "--proposals/--detections",
            help="Evaluate the proposals, which have no classes (average recall, best overlap), or "
            "the detections (average precision).",
        ),
    ] = False,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of proposals per image. With --proposals these are evaluated, 1000 by "
            "default; otherwise, and with --preset, by default as many as the bundle specifies.",
        ),
    ] = None,
    scales: Scales = None,
    max_side: MaxSide = None,
    tiles: Tiles = "off",
    tile_overlap: TileOverlap = None,
    results: Annotated[
        Path | None, typer.Option(help="File of COCO results to evaluate instead of a bundle.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint to export and evaluate instead of a bundle.")
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(help="With --checkpoint: checkpoint of a detector to add.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first images.")] = None,
    replicates: Annotated[
        int, typer.Option(min=1, help="Number of bootstrap resamples for the 95 % intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    device: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    backend: Annotated[str, typer.Option(help="Same as in `foveate run`.")] = "auto",
    threads: Threads = None,
    reproduce_original: Annotated[
        bool,
        typer.Option(
            "--reproduce-original",
            help="Choose windows as the original Lua code does: from levels of the full-resolution "
            "image, without suppression, and with its quirks.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file of the figures; - for stdout.")
    ] = None,
) -> None:
    """Measure a bundle's accuracy on a data set, with intervals, time and memory."""
    from foveate.cli._files import check_outputs, write_result
    from foveate.cli._options import parse_scales, parse_tiles, refuse_together
    from foveate.evaluation import Bootstrap
    from foveate.plain_text import json_text
    from foveate.runtime import PipelineOptions

    _refuse_without_effect(context)
    refuse_together(preset=preset is not None, reproduce_original=reproduce_original)
    to_stdout = json_file == Path("-")
    check_outputs(json_file, inputs=(results, checkpoint, detector))
    truth = _open_truth(dataset, annotations, limit)
    check_outputs(json_file, inputs=truth.files)
    task: Task = "proposals" if proposals else "detections"
    if proposals and preset is None:
        top_k = top_k or _PROPOSALS
    resampling = Bootstrap(replicates=replicates, seed=seed)
    if results is not None:
        report = _evaluate_file(results, truth, task, top_k or _PROPOSALS, resampling)
    else:
        truth.require_images()  # results alone can be evaluated without images
        # Average precision is taken over all scores, hence it needs the uncertain detections too.
        options = PipelineOptions(
            preset=preset,
            score_threshold=0.0,
            top_k=top_k,
            scales=parse_scales(scales),
            max_side=max_side,
            tiles=parse_tiles(tiles),
            tile_overlap=tile_overlap,
            threads=threads,
            debug=bool(context.obj),
            pyramid="full-resolution" if reproduce_original else "working-size",
            window_nms_iou=1.0 if reproduce_original else None,  # no suppression
            proposal_nms_iou=1.0 if reproduce_original else None,
        )
        name = bundle if checkpoint is None else str(checkpoint)
        name += ", as the original" if reproduce_original else ""
        name += f", preset {preset}" if preset is not None else ""
        with (
            _bundle_of(bundle, checkpoint, detector) as place,
            _open(place, device, backend, options) as pipeline,
        ):
            report = _evaluate_pipeline(pipeline, truth, task, name, backend, resampling)
    print_table(report.table(), to_stderr=to_stdout)
    if json_file is not None:
        write_result(json_file, json_text(report.to_json(), indent=2))


def _refuse_without_effect(context: typer.Context) -> None:
    """Refuse options that have no effect on the results or the checkpoint to evaluate."""
    values = context.params
    if values["results"] is not None:
        names = _OF_PIPELINE if values["proposals"] else (*_OF_PIPELINE, "top_k")
        if ignored := given_options(context, names):
            what = f"--results runs no pipeline, so it takes no {', '.join(ignored)}"
            raise OptionError(what, remedy="omit one or the other")
    elif values["checkpoint"] is not None and given_options(context, ("bundle",)):
        what = f"--checkpoint is evaluated instead of a bundle, found {values['bundle']!r} too"
        raise OptionError(what, remedy="omit one of them")
    elif values["checkpoint"] is None and values["detector"] is not None:
        raise OptionError("--detector needs --checkpoint", remedy="pass a proposal network too")


def _open_truth(dataset: Path, annotations: Path | None, limit: int | None) -> GroundTruth:
    """Open a data set, and print how much of it cannot be evaluated."""
    from foveate.evaluation import GroundTruth

    truth = GroundTruth.open(dataset, annotations=annotations, limit=limit)
    if truth.problems:
        print_line(f"objects that cannot be found: {truth.problems.report()}", to_stderr=True)
    if truth.unmasked:
        print_line(
            f"{truth.unmasked} of {counted(len(truth.objects), 'object has', 'objects have')} a box "
            "but no mask, so only boxes are evaluated: outline all objects to evaluate masks",
            to_stderr=True,
        )
    return truth


@contextlib.contextmanager
def _bundle_of(bundle: str, checkpoint: Path | None, detector: Path | None) -> Iterator[str | Path]:
    """Yield the bundle, or a temporary one of the checkpoint."""
    if checkpoint is None:
        yield bundle
        return
    from foveate.export.bundle_export import export_bundle
    from foveate.models.checkpoint import load_checkpoint

    cascade = load_checkpoint(checkpoint, detector)
    with tempfile.TemporaryDirectory() as scratch:
        yield export_bundle(cascade, Path(scratch) / "bundle").root


def _open(bundle: str | Path, device: str, backend: str, options: PipelineOptions) -> Pipeline:
    """Return a pipeline, which may run PyTorch, or choose windows as the original code does."""
    from foveate.bundle import Bundle
    from foveate.cli._torch import check_device_and_backend, load_pipeline, open_torch_parts
    from foveate.evaluation.legacy import LegacyOptions, OriginalDevice
    from foveate.runtime import Pipeline
    from foveate.runtime.loading import open_engines

    if options.pyramid != "full-resolution":
        return load_pipeline(bundle, device, backend, options)
    check_device_and_backend(device, backend)
    if device not in ("auto", "cpu"):
        what = f"the original code's choice of windows runs on the CPU, found --device {device}"
        raise OptionError(what, remedy="omit --device")
    runs_on, opened = OriginalDevice(LegacyOptions.original()), Bundle.open(bundle)
    if backend == "torch":
        _, engines = open_torch_parts(opened, runs_on, options)
    else:
        engines = open_engines(opened, runs_on, backend, options.threads)
    return Pipeline(opened, engines, device=runs_on, options=options)


def _evaluate_pipeline(
    pipeline: Pipeline,
    truth: GroundTruth,
    task: Task,
    name: str,
    backend: str,
    resampling: Bootstrap,
) -> Report:
    from foveate.cli._classes import print_lacking_classes
    from foveate.evaluation import evaluate

    if task == "detections":
        print_lacking_classes(truth, pipeline.manifest.class_names)
    with show_progress() as progress:
        return evaluate(
            pipeline,
            truth,
            task=task,
            most=pipeline.options.applied_to(pipeline.bundle.manifest).select.top_k,
            name=name,
            backend="onnxruntime" if backend == "auto" else backend,
            resampling=resampling,
            progress=progress,
        )


def _evaluate_file(
    file: Path, truth: GroundTruth, task: Task, most: int, resampling: Bootstrap
) -> Report:
    from foveate.evaluation import evaluate_results, read_results

    with show_progress() as progress:
        found = read_results(file, truth, task=task, progress=progress)
        if (count := found.elsewhere) > 0:
            results = counted(count, "result belongs to an image", "results belong to images")
            print_line(f"{results} that the data set lacks", to_stderr=True)
        return evaluate_results(
            found, truth, task=task, most=most, resampling=resampling, progress=progress
        )
