# SPDX-License-Identifier: Apache-2.0
"""`foveate verify`: does a bundle compute what its networks compute?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.export.checks.judge import Thresholds
    from foveate.export.checks.record import Record
    from foveate.export.execution.reference import Reference

PHOTOGRAPHS = Path(__file__).parents[1] / "assets" / "images"


def command(
    bundle: Annotated[
        str, typer.Argument(help="A shipped bundle's name, or the path of a bundle.")
    ],
    *,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Compare with this; by default with the bundle's weights.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Compare with this bundle instead; needs no PyTorch.")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Image; repeat it. The shipped ones by default.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="COCO data set to compare average recall and precision on, too."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many of its images.")] = None,
    emulate_fp16: Annotated[
        bool,
        typer.Option("--emulate-fp16", help="Round stages in fp16 as a GPU does; a CPU does not."),
    ] = False,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Name the first layer that drifts.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="File of the figures; beside the bundle by default.")
    ] = None,
    from_report: Annotated[
        bool, typer.Option("--from-report", help="Judge the saved figures without another run.")
    ] = False,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Smallest score of a detection.")
    ] = DEFAULT_SCORE_THRESHOLD,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest difference, as a share of the largest value.")
    ] = None,
    cosine: Annotated[float | None, typer.Option(help="Smallest cosine of an output.")] = None,
    box: Annotated[float | None, typer.Option(help="Largest difference of boxes, pixels.")] = None,
    mask_iou: Annotated[float | None, typer.Option(help="Smallest IoU of masks.")] = None,
    min_match_rate: Annotated[
        float | None, typer.Option(help="Smallest share of detections found again.")
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(help="Smallest share of recall and precision kept.")
    ] = None,
) -> None:
    """Compare every stage and the whole cascade with PyTorch; check dispatch and precision."""
    from foveate.bundle import Bundle
    from foveate.cli._console import say
    from foveate.cli._files import check_output
    from foveate.export.checks.judge import default_thresholds, judge
    from foveate.export.checks.record import read_record, write_record

    _check_alone(
        (checkpoint is not None, reference is not None, from_report),
        "--checkpoint, --reference, --from-report",
    )
    _check_alone((emulate_fp16, bisect, from_report), "--emulate-fp16, --bisect, --from-report")
    opened = Bundle.open(bundle)
    file = report or _beside(opened)
    if not (bisect or from_report):
        check_output(file, (checkpoint, *(image or ())))
    given = {
        "tolerance": tolerance,
        "cosine": cosine,
        "box": box,
        "mask_iou": mask_iou,
        "min_match_rate": min_match_rate,
        "accuracy": accuracy,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    asked = {
        stage: replace(default_thresholds(precision), **changes)
        for stage, precision in _precisions(opened).items()
    }
    engines = _inspect(opened)
    images = image or sorted(PHOTOGRAPHS.glob("*.jpg"))
    if bisect:
        _bisect(opened, _reference(opened, checkpoint, reference), images, asked)
        return
    if from_report:
        record = read_record(file, opened)
    else:
        compared = _reference(opened, checkpoint, reference)
        record = _measure(opened, compared, images, score_threshold, emulate_fp16)
        if dataset is not None:
            from foveate.cli._accuracy import compare_accuracy

            figures = compare_accuracy(opened, compared, dataset, limit, emulate_fp16=emulate_fp16)
            record = replace(record, accuracy=figures)
        record = replace(record, engines=engines)
        write_record(record, file)
        say(f"The figures are in {file}", aside=True)
    for line in _table(record):
        say(line)
    judge(record, asked)
    rest = f"; {len(engines)} engines were not run" if engines else ""
    say(f"{record.bundle} agrees with {record.reference} on {len(record.images)} images{rest}")


def _check_alone(given: tuple[bool, ...], names: str) -> None:
    from foveate.errors import OptionError

    if sum(given) > 1:
        raise OptionError(f"{names} exclude each other", remedy="give one of them")


def _inspect(bundle: Bundle) -> dict[str, str]:
    """Refuse what `inspect` does; tell each compiled engine and why it is not run."""
    from foveate.cli._console import say
    from foveate.errors import ModelError
    from foveate.export.checks.report import check_report, inspect_bundle

    inspected = inspect_bundle(bundle)
    problem = check_report(inspected)
    if problem is not None:
        raise ModelError(problem)
    engines = {one.plan: one.obstacle for one in inspected.engines}
    for plan, why in engines.items():
        say(f"{plan} was not run: {why}")
    return engines


def _reference(bundle: Bundle, checkpoint: Path | None, other: str | None) -> Reference:
    from foveate.bundle import Bundle as Opened
    from foveate.export.execution.reference import bundle_reference, torch_reference

    if other is not None:
        return bundle_reference(bundle, Opened.open(other))
    return torch_reference(bundle, checkpoint)


def _measure(
    bundle: Bundle,
    reference: Reference,
    images: list[Path],
    score_threshold: float,
    emulate_fp16: bool,
) -> Record:
    from foveate.cli._console import progress
    from foveate.export.checks.parity import measure

    with progress() as advance:
        return measure(
            bundle,
            reference,
            images,
            score_threshold=score_threshold,
            emulate_fp16=emulate_fp16,
            tell=lambda done, total: advance("Images", done, total),
        )


def _bisect(
    bundle: Bundle, reference: Reference, images: list[Path], asked: dict[str, Thresholds]
) -> None:
    from foveate.cli._console import progress, say
    from foveate.errors import ModelError
    from foveate.export.checks.bisect import first_drift
    from foveate.export.checks.judge import judge_pasting
    from foveate.export.checks.parity import pasting_on

    tolerances = {stage: one.tolerance for stage, one in asked.items()}
    with progress() as advance:
        drift = first_drift(
            bundle,
            reference,
            images,
            tolerances,
            tell=lambda done, total: advance("Images", done, total),
        )
    if drift is not None:
        raise ModelError(str(drift), file=bundle.root, remedy="export this stage again")
    for name, found in pasting_on(bundle, images):
        judge_pasting(name, found)
    say(f"No stage drifts from {reference.name} on {len(images)} images")


def _precisions(bundle: Bundle) -> dict[str, str]:
    return {name: bundle.manifest.precision_of(name) for name in bundle.manifest.networks}


def _beside(bundle: Bundle) -> Path:
    """Return where the figures go: never into the package, whose bundles are shipped."""
    root = bundle.root.resolve()
    folder = Path() if root.is_relative_to(Path(__file__).parents[1]) else root.parent
    return folder / f"{root.name}-verify.json"


def _table(record: Record) -> list[str]:
    lines = [f"{'stage':10} {'output':14} {'max':>8} {'mean':>8} {'cosine':>10}"]
    for stage in record.files:
        names = {name for one in record.images for name in one.stages.get(stage, {})}
        for name in sorted(names):
            found = [one.stages[stage][name] for one in record.images if name in one.stages[stage]]
            worst = max(one.relative for one in found)
            mean = max(one.mean_error / max(1.0, one.largest) for one in found)
            cosine = min(one.cosine for one in found)
            lines.append(f"{stage:10} {name:14} {worst:8.1e} {mean:8.1e} {cosine:10.7f}")
    pasted = [one.pasting for one in record.images if one.pasting is not None]
    if pasted:
        lines.append(
            f"paste: {sum(one.windows for one in pasted)} windows of "
            f"{sum(one.pixels for one in pasted)} pixels, "
            f"{sum(one.differing for one in pasted)} of which differ from the runtime's masks, "
            f"{sum(one.beyond for one in pasted)} of them not at the threshold"
        )
    pairs = [pair for one in record.images for pair in one.detections.pairs]
    expected = sum(one.detections.expected for one in record.images)
    found_again = sum(one.detections.found for one in record.images)
    lines.append(f"detections: {expected} by the reference, {found_again} by the bundle")
    if pairs:
        lines.append(
            f"  boxes within {max(pair.box_error for pair in pairs):.2g} px, masks of IoU "
            f"{min(pair.mask_iou for pair in pairs):.4f} or more"
        )
    for name, figure in record.accuracy.items():
        lines.append(f"{name}: {figure.found:.4f}, the reference {figure.expected:.4f}")
    return lines
