# SPDX-License-Identifier: Apache-2.0
"""``foveate verify``: compare a bundle with the networks that it was exported from."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli._console import print_line, show_progress
from foveate.cli._figures import table_of
from foveate.cli._options import (
    DEFAULT_SCORE_THRESHOLD,
    BundleArgument,
    ScoreThreshold,
    given_options,
    refuse_together,
)
from foveate.errors import OptionError
from foveate.plain_text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foveate.bundle import Bundle
    from foveate.evaluation import GroundTruth
    from foveate.evaluation.measure import Task
    from foveate.export.checks.record import Accuracy, Record, Thresholds
    from foveate.export.execution.sessions import Reference
    from foveate.runtime import Pipeline

# The figures of each task that are judged.
_JUDGED: dict[Task, tuple[str, ...]] = {
    "proposals": ("mask AR@10", "mask AR@100"),
    "detections": ("mask AP", "mask AP50"),
}
# Options that have no effect with another one, since nothing is run or only stages are compared.
_IGNORED = {
    "from_report": ("image", "dataset", "limit", "score_threshold"),
    "bisect": (
        *("dataset", "limit", "report", "score_threshold"),
        *("cosine", "box", "mask_iou", "min_match_rate", "accuracy"),
    ),
}


def command(
    context: typer.Context,
    bundle: BundleArgument,
    *,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Reference checkpoint; by default the bundle's weights.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Bundle to compare with instead; needs no PyTorch.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Device of the bundle: cpu, or cuda, which runs it by PyTorch, ONNX Runtime and each "
            "of its compiled engines, and compares all with the CPU."
        ),
    ] = "cpu",
    image: Annotated[
        list[Path] | None, typer.Option(help="Image, repeatable; by default the shipped ones.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="COCO data set to compare the accuracy on as well.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first images of the data set.")
    ] = None,
    emulate_fp16: Annotated[
        bool, typer.Option("--emulate-fp16", help="Round every fp16 value, as a GPU does.")
    ] = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the first layer that differs.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="File of the figures; by default next to the bundle.")
    ] = None,
    from_report: Annotated[
        bool, typer.Option("--from-report", help="Check the saved figures; run nothing.")
    ] = False,
    score_threshold: ScoreThreshold = DEFAULT_SCORE_THRESHOLD,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest difference, as a share of the largest value.")
    ] = None,
    cosine: Annotated[
        float | None, typer.Option(help="Smallest cosine similarity of an output.")
    ] = None,
    box: Annotated[
        float | None, typer.Option(help="Largest difference of a box coordinate, in pixels.")
    ] = None,
    mask_iou: Annotated[float | None, typer.Option(help="Smallest IoU of two masks.")] = None,
    min_match_rate: Annotated[
        float | None, typer.Option(help="Smallest share of detections with a match.")
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(help="Smallest share of average recall and precision kept.")
    ] = None,
) -> None:
    """Compare every stage and the whole cascade with PyTorch; check dispatch and precision."""
    given = dict(locals())  # the thresholds are fields of `Thresholds` by the same names
    from foveate.bundle import Bundle
    from foveate.cli._files import check_outputs
    from foveate.cli._verify_gpu import check_gpu, compare_on_gpu, judge
    from foveate.cli.demo import IMAGES
    from foveate.export.checks import record as records
    from foveate.export.checks.verification import measure

    _check_options(context)
    on_gpu = device != "cpu"
    if on_gpu:
        others = {"emulate_fp16": emulate_fp16, "bisect": bisect, "dataset": dataset is not None}
        check_gpu(device, from_report=from_report, **others)
    opened = Bundle.open(bundle)
    file = report or _default_report(opened, "-gpu" if on_gpu else "")
    truth = None if dataset is None else _open_truth(dataset, limit)
    images = image or sorted(IMAGES.glob("*.jpg"))
    if not (bisect or from_report):  # these two write no figures
        check_outputs(file, inputs=(checkpoint, *images, *(truth.files if truth else ())))
    thresholds = _thresholds(opened, given, on_gpu=on_gpu)
    engines = _inspect(opened)  # before the long work, since it may refuse the bundle
    if on_gpu:
        against = _gpu_references(opened, checkpoint, reference)
        found = compare_on_gpu(opened, against, device, images, score_threshold, file)
        judge(found, thresholds, engines)
        return
    for plan, reason in engines.items():
        print_line(f"{plan} was not run: {reason or '--device cuda compares it'}")
    if bisect:
        _bisect(opened, _reference(opened, checkpoint, reference), images, thresholds)
        return
    if from_report:
        record = records.read_record(file, opened)
    else:
        expected = _reference(opened, checkpoint, reference)
        run = partial(measure, score_threshold=score_threshold, emulate_fp16=emulate_fp16)
        with show_progress() as progress:
            record = replace(run(opened, expected, images, progress=progress), engines=engines)
        if truth is not None:
            figures = _compare_accuracy(opened, expected, truth, emulate_fp16)
            record = replace(record, accuracy=figures)
        records.write_record(record, file)  # before the judgment, so that failures can be studied
        print_line(f"The figures are in {file}", to_stderr=True)
    for line in table_of(record):
        print_line(line)
    records.check_record(record, thresholds)
    _print_agreement(record, len(engines))


def _print_agreement(record: Record, engines: int) -> None:
    rest = f"; {counted(engines, 'engine was', 'engines were')} not run" if engines else ""
    agreeing = f"{record.bundle} agrees with {record.reference}"
    print_line(f"{agreeing} on {counted(len(record.images), 'image', 'images')}{rest}")


def _check_options(context: typer.Context) -> None:
    """Refuse options that exclude each other, and those that would have no effect."""
    values = context.params
    compared = {name: values[name] is not None for name in ("checkpoint", "reference")}
    refuse_together(**compared, from_report=values["from_report"])
    refuse_together(**{one: values[one] for one in ("emulate_fp16", "bisect", "from_report")})
    for way, names in _IGNORED.items():
        if values[way] and (ignored := given_options(context, names)):
            what = f"--{way.replace('_', '-')} takes no {', '.join(ignored)}"
            raise OptionError(what, remedy="omit one or the other")
    if values["dataset"] is None and given_options(context, ("limit",)):
        what = "--limit is a number of images of --dataset, which is missing"
        raise OptionError(what, remedy="pass both, or omit it")


def _thresholds(bundle: Bundle, given: Mapping[str, Any], *, on_gpu: bool) -> dict[str, Thresholds]:
    """Return the thresholds of each stage: those given, and the defaults of its precision."""
    from foveate.export.checks import record

    changes = {one.name: given[one.name] for one in fields(record.Thresholds)}
    changes = {name: value for name, value in changes.items() if value is not None}
    defaults = record.GPU_THRESHOLDS if on_gpu else record.DEFAULT_THRESHOLDS
    return {
        stage: replace(defaults[bundle.manifest.precision_of(stage)], **changes)
        for stage in bundle.manifest.networks
    }


def _inspect(bundle: Bundle) -> dict[str, str]:
    """Return why each compiled engine is not run here."""
    from foveate.export.checks.bundle_report import check_report, inspect_bundle

    inspected = inspect_bundle(bundle)
    check_report(inspected)
    return {one.plan: one.obstacle for one in inspected.engines}


def _reference(bundle: Bundle, checkpoint: Path | None, other: str | None) -> Reference:
    from foveate.bundle import Bundle as Opened
    from foveate.export.execution.sessions import bundle_reference

    if other is not None:
        return bundle_reference(bundle, Opened.open(other))
    from foveate.export.to_onnx.bundle_weights import torch_reference

    return torch_reference(bundle, checkpoint)


def _gpu_references(bundle: Bundle, checkpoint: Path | None, other: str | None) -> list[Reference]:
    """Return the references of a GPU: the one that is chosen, and the bundle itself on the CPU."""
    from foveate.bundle import Bundle as Opened
    from foveate.export.execution.sessions import bundle_reference

    itself = replace(bundle_reference(bundle, bundle), name="ONNX Runtime on the CPU")
    if other is not None and Opened.open(other).root == bundle.root:
        return [itself]
    chosen = _reference(bundle, checkpoint, other)
    return [replace(chosen, name=f"{chosen.name} on the CPU"), itself]


def _open_truth(dataset: Path, limit: int | None) -> GroundTruth:
    """Open a data set before the long work, since it may be refused."""
    from foveate.errors import DataError
    from foveate.evaluation import GroundTruth

    truth = GroundTruth.open(dataset, limit=limit)
    truth.require_images()
    if truth.unmasked:
        raise DataError(
            f"{truth.unmasked} of {len(truth.objects)} objects have a box but no mask, and the "
            "accuracy of masks is compared",
            file=dataset,
            remedy="outline these objects, or use another data set",
        )
    return truth


def _compare_accuracy(
    bundle: Bundle, reference: Reference, truth: GroundTruth, emulate_fp16: bool
) -> dict[str, Accuracy]:
    """Return the accuracy of both on a data set, by the name of the figure."""
    from foveate.export.checks.record import Accuracy
    from foveate.export.execution.sessions import bundle_pipeline, function_pipeline
    from foveate.runtime import PipelineOptions

    options = PipelineOptions(score_threshold=0.0)  # average precision is taken over all scores
    tasks: list[Task] = ["proposals", "detections"] if bundle.manifest.classifies else ["proposals"]
    found: dict[str, Accuracy] = {}
    with (
        function_pipeline(bundle, reference.functions, options) as expecting,
        bundle_pipeline(bundle, options, emulate_fp16=emulate_fp16) as finding,
    ):
        for task in tasks:
            expected = _figures(expecting, truth, task, f"Reference, {task}")
            own = _figures(finding, truth, task, f"Bundle, {task}")
            found |= {
                name: Accuracy(expected=expected[name], found=own[name])
                for name in _JUDGED[task]
                if name in expected
            }
    return found


def _figures(pipeline: Pipeline, truth: GroundTruth, task: Task, label: str) -> dict[str, float]:
    from foveate.evaluation import Bootstrap, evaluate

    with show_progress() as progress:
        report = evaluate(
            pipeline,
            truth,
            task=task,
            resampling=Bootstrap(replicates=1),  # the intervals are not judged
            progress=lambda _, *done: progress(label, *done),
        )
    return {name: figure.value for name, figure in report.figures.items()}


def _bisect(
    bundle: Bundle, reference: Reference, images: list[Path], thresholds: dict[str, Thresholds]
) -> None:
    from foveate.errors import ModelError
    from foveate.export.checks.record import check_pasting
    from foveate.export.checks.verification import compare_pasting_on, first_divergence

    tolerances = {stage: one.tolerance for stage, one in thresholds.items()}
    with show_progress() as progress:
        divergence = first_divergence(bundle, reference, images, tolerances, progress=progress)
    if divergence is not None:
        raise ModelError(str(divergence), file=bundle.root, remedy="export this stage again")
    for name, found in compare_pasting_on(bundle, images):
        check_pasting(name, found)
    on = counted(len(images), "image", "images")
    print_line(f"No stage diverges from {reference.name} on {on}")


def _default_report(bundle: Bundle, ending: str) -> Path:
    """Return the file of the figures: next to the bundle, or here if it is shipped or downloaded."""
    from foveate.bundle import is_packaged, is_snapshot

    root = bundle.root.resolve()
    # Shipped bundles are in the package, which may be read-only.
    if is_packaged(root) or is_snapshot(root):
        return Path(f"{bundle.manifest.name}-verify{ending}.json")
    return root.with_name(f"{root.name}-verify{ending}.json")
