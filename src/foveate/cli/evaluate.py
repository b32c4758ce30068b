# SPDX-License-Identifier: Apache-2.0
"""`foveate evaluate`: how good a bundle is on a data set, how sure that is, and what it costs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.errors import OptionError

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.evaluation import GroundTruth, Report, Resampling
    from foveate.evaluation.measure import Task
    from foveate.runtime import Pipeline, PipelineOptions
    from foveate.runtime.engines import Engine

_PROPOSALS = 1000  # the largest number that average recall is published for


def command(
    bundle: Annotated[
        str, typer.Argument(help="A shipped bundle's name, or the path of a bundle.")
    ] = "mini",
    *,
    dataset: Annotated[
        Path,
        typer.Option(
            help="A data set, or a part of one, as COCO, CVAT, Roboflow, labelme or recipes/mini "
            "lay it out (docs/how-to/data.md); with --annotations, the folder of the images."
        ),
    ],
    annotations: Annotated[
        Path | None, typer.Option(help="The annotations, where they are not in the data set.")
    ] = None,
    proposals: Annotated[
        bool,
        typer.Option(
            "--proposals/--detections",
            help="Evaluate the objects found without their classes (average recall, best overlap), "
            "or the detections (average precision).",
        ),
    ] = False,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Proposals an image. With --proposals they are what is evaluated, 1000 by "
            "default; else what the detections are made from, as many as the bundle says.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate this list of COCO results, of any program, or what `foveate run --json` "
            "wrote, and run no bundle."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate a checkpoint in place of a bundle, exported as `foveate export` would."
        ),
    ] = None,
    detector: Annotated[
        Path | None,
        typer.Option(help="With --checkpoint: a detector that was trained apart, to join it with."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    replicates: Annotated[
        int, typer.Option(min=1, help="Resamplings for the 95 % intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamplings.")] = 0,
    device: Annotated[str, typer.Option(help="As for `foveate run`.")] = "auto",
    backend: Annotated[
        str,
        typer.Option(help="As for `foveate run`, or torch: the same weights in PyTorch."),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; all cores by default.")
    ] = None,
    reproduce_original: Annotated[
        bool,
        typer.Option(
            "--reproduce-original",
            help="Choose windows as the released Lua code does: from levels of the image itself, "
            "without suppression, and with its quirks.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the figures here as JSON; - is standard output."),
    ] = None,
) -> None:
    """Measure a bundle's accuracy on a data set, with intervals, time and memory."""
    from foveate.cli._console import say, show
    from foveate.cli._files import check_output
    from foveate.evaluation import GroundTruth, Resampling
    from foveate.runtime import PipelineOptions

    to_stdout = json_file == Path("-")
    inside = dataset / "annotations.json"
    check_output(json_file, (results, annotations, checkpoint, detector, inside))
    truth = GroundTruth.open(dataset, annotations=annotations, limit=limit)
    if truth.problems:
        say(f"objects that nothing can find: {truth.problems.report()}", aside=True)
    if truth.unmasked:
        say(
            f"{truth.unmasked} of {len(truth.objects)} objects have a box and no mask, so boxes "
            "alone are measured: outline these objects to measure masks",
            aside=True,
        )
    task: Task = "proposals" if proposals else "detections"
    top_k = top_k or (_PROPOSALS if proposals else None)
    resampling = Resampling(replicates=replicates, seed=seed)
    if results is not None:
        if reproduce_original:
            raise OptionError(
                "--reproduce-original says how a pipeline chooses windows, and --results runs none",
                remedy="leave one of them out",
            )
        report = _of_file(results, truth, task, top_k or _PROPOSALS, resampling)
    else:
        truth.require_images()
        # Average precision needs the doubtful detections too: it is taken over all scores.
        options = PipelineOptions(
            score_threshold=0.0,
            top_k=top_k,
            threads=threads,
            pyramid="full-resolution" if reproduce_original else "working-size",
            window_nms_iou=1.0 if reproduce_original else None,
        )
        name = bundle if checkpoint is None else str(checkpoint)
        with (
            _bundle_of(bundle, checkpoint, detector) as place,
            _open(place, device, backend, options) as pipeline,
        ):
            report = _of_pipeline(pipeline, truth, task, name, backend, resampling)
    show(report.table(), aside=to_stdout)
    if json_file is not None:
        _write(report, None if to_stdout else json_file)


@contextlib.contextmanager
def _bundle_of(bundle: str, checkpoint: Path | None, detector: Path | None) -> Iterator[str | Path]:
    """The bundle, or that of a checkpoint, which is gone afterwards."""
    if checkpoint is None:
        if detector is not None:
            raise OptionError("--detector needs --checkpoint", remedy="name a proposal network too")
        yield bundle
        return
    from foveate.export.to_onnx.bundle_export import export_bundle
    from foveate.models.checkpoint import load_checkpoint

    cascade = load_checkpoint(checkpoint, detector)
    with tempfile.TemporaryDirectory() as scratch:
        yield export_bundle(cascade, Path(scratch) / "bundle").root


def _open(bundle: str | Path, device: str, backend: str, options: PipelineOptions) -> Pipeline:
    """Make a pipeline, of engines or on a device that the runtime does not know if need be."""
    from foveate.bundle import Bundle
    from foveate.evaluation.legacy import LegacyOptions, OriginalDevice
    from foveate.runtime import Pipeline
    from foveate.runtime.loading import open_device, open_engines

    runs_on = open_device(device)  # which also refuses a name that is none
    if options.pyramid == "full-resolution":
        runs_on = OriginalDevice(LegacyOptions.original())
    opened = Bundle.open(bundle)
    if backend == "torch":
        engines = _torch_engines(opened, options.threads)
    else:
        engines = open_engines(opened, backend, options.threads)
    return Pipeline(opened, engines, device=runs_on, options=options)


def _torch_engines(bundle: Bundle, threads: int | None) -> Mapping[str, Engine]:
    import torch

    from foveate.export.execution.bundle_weights import cascade_from_bundle
    from foveate.export.execution.torch_engine import torch_engines

    if threads is not None:
        torch.set_num_threads(threads)
    return torch_engines(cascade_from_bundle(bundle), bundle)


def _of_pipeline(
    pipeline: Pipeline,
    truth: GroundTruth,
    task: Task,
    name: str,
    backend: str,
    resampling: Resampling,
) -> Report:
    from foveate.cli._console import progress
    from foveate.evaluation import evaluate

    with progress() as advance:
        return evaluate(
            pipeline,
            truth,
            task=task,
            most=pipeline.options.top_k or _PROPOSALS,
            name=f"{name}, as released" if pipeline.options.pyramid == "full-resolution" else name,
            backend="onnxruntime" if backend == "auto" else backend,
            resampling=resampling,
            progress=partial(advance, "Evaluating"),
        )


def _of_file(
    file: Path, truth: GroundTruth, task: Task, most: int, resampling: Resampling
) -> Report:
    from foveate.cli._console import progress, say
    from foveate.evaluation import evaluate_results, read_results

    with progress() as advance:
        found = read_results(file, truth, task=task, progress=partial(advance, "Reading, MB"))
        if found.elsewhere:
            say(f"{found.elsewhere} results are of images that the data set lacks", aside=True)
        return evaluate_results(
            found,
            truth,
            task=task,
            most=most,
            resampling=resampling,
            progress=partial(advance, "Evaluating"),
        )


def _write(report: Report, file: Path | None) -> None:
    from foveate.cli._console import write_out
    from foveate.plain_text import json_text
    from foveate.system.files import write_file

    text = json_text(report.to_json(), indent=2)
    if file is None:
        write_out(text)
    else:
        write_file(file, text.encode())
