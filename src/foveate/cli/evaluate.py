# SPDX-License-Identifier: Apache-2.0
"""`foveate evaluate`: how good a bundle is on a data set, how sure that is, and what it costs."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from foveate.training.evaluation import Report

__all__ = ["command"]


def command(
    bundle: Annotated[
        str, typer.Argument(help="A shipped bundle's name, or the path of a bundle.")
    ] = "mini",
    *,
    dataset: Annotated[
        Path,
        typer.Option(
            help="A COCO-format data set: a folder with annotations.json and pictures/, "
            "or one with validation/ in it."
        ),
    ],
    proposals: Annotated[
        bool,
        typer.Option(
            "--proposals/--detections",
            help="Evaluate the objects found without their classes (average recall, best overlap), "
            "or the detections (average precision).",
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pictures.")] = None,
    replicates: Annotated[
        int, typer.Option(min=1, help="Resamplings for the 95 % intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resamplings.")] = 0,
    device: Annotated[str, typer.Option(help="As for `foveate run`.")] = "auto",
    backend: Annotated[str, typer.Option(help="As for `foveate run`.")] = "auto",
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the figures here as JSON; - is standard output."),
    ] = None,
) -> None:
    """Measure a bundle's accuracy on a data set, with intervals, time and memory."""
    import foveate
    from foveate.cli._console import progress
    from foveate.training.evaluation import GroundTruth, Resampling, evaluate

    to_stdout = json_file == Path("-")
    console = Console(stderr=to_stdout)
    truth = GroundTruth.open(dataset, limit=limit)
    # Average precision needs the doubtful detections too: it is taken over all scores.
    options = foveate.Options(min_score=0.0)
    pipeline = foveate.load(bundle, device=device, backend=backend, options=options)
    with progress() as advance:
        report = evaluate(
            pipeline,
            truth,
            task="proposals" if proposals else "detections",
            name=bundle,
            resampling=Resampling(replicates=replicates, seed=seed),
            progress=partial(advance, "Evaluating"),
        )
    console.print(report.table())
    if json_file is not None:
        _write(report, None if to_stdout else json_file)


def _write(report: Report, file: Path | None) -> None:
    text = json.dumps(report.to_json(), indent=2) + "\n"
    if file is None:
        sys.stdout.write(text)
        return
    # Beside the target and then renamed, so that an interrupted writer leaves no half of a file.
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        from foveate.errors import InputError

        raise InputError(
            f"the figures cannot be written ({error.strerror})",
            file=file,
            remedy="name a file in a folder that exists and can be written to",
        ) from error
