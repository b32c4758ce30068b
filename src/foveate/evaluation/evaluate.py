# SPDX-License-Identifier: Apache-2.0
"""Evaluations, and their reports: JSON for programs, a table for people."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from foveate.arrays import Float64Array
from foveate.evaluation.annotations import GroundTruth
from foveate.evaluation.bootstrap import Bootstrap, Estimate
from foveate.evaluation.measure import Measurement, Task
from foveate.evaluation.predict import Pipeline, Run, predict
from foveate.evaluation.results import Results
from foveate.plain_text import counted
from foveate.progress import Progress, no_progress

_SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures with intervals, and their cost.

    Args:
        task: "proposals" or "detections".
        subject: Name of a bundle, or of a file of results.
        truth: Ground truth.
        most: Number of proposals per image that counted, K.
        figures: Estimates by name, in the order of the table.
        run: Time and memory; None if results came from a file.
        resampling: Settings of the intervals.
        backend: Name of the backend that ran the networks; "" if it is not known.
    """

    task: Task
    subject: str
    truth: GroundTruth
    most: int
    figures: dict[str, Estimate]
    run: Run | None
    resampling: Bootstrap
    backend: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return everything except the results, with null for figures without objects."""
        return {
            "schema": _SCHEMA,
            "task": self.task,
            "subject": self.subject,
            "backend": self.backend or None,
            **({"proposals_per_image": self.most} if self.task == "proposals" else {}),
            "dataset": {
                "name": self.truth.name,
                "images": len(self.truth.images),
                "objects": len(self.truth.objects),
                "classes": sorted(self.truth.category_ids),
            },
            "figures": {
                name: {key: _or_none(getattr(figure, key)) for key in ("value", "low", "high")}
                for name, figure in self.figures.items()
            },
            "interval": {
                "confidence": 0.95,
                "method": "percentile bootstrap over families of objects",
                "unit": self.truth.unit,
                "units": self.truth.families,
                "replicates": self.resampling.replicates,
                "seed": self.resampling.seed,
            },
            "cost": None if self.run is None else _cost(self.run),
        }

    def table(self) -> Table:
        """Return a table for a terminal, without the figures that have no objects."""
        by = f" by {self.backend}" if self.backend else ""
        title = f"{self.task} of {self.subject}{by} on {self.truth.name}"
        table = Table(title=title, title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        region = ""
        for name, figure in self.figures.items():
            if math.isnan(figure.value):
                continue  # no such objects: null in the JSON, omitted in the table
            if region and region != name.split()[0]:
                table.add_section()
            region = name.split()[0]
            interval = "" if math.isnan(figure.low) else f"{figure.low:.3f} to {figure.high:.3f}"
            table.add_row(name, f"{figure.value:.3f}", interval)
        if self.run is not None:
            table.add_section()
            for name, value in _cost_rows(self.run):
                table.add_row(name, value)
        table.caption = self._caption()
        table.caption_justify = "left"
        return table

    def _caption(self) -> str:
        unit = {
            "family": ("family of cut-outs", "families of cut-outs"),
            "object": ("single object", "single objects"),
        }[self.truth.unit]
        kept = f", at most {self.most} proposals each" if self.task == "proposals" else ""
        times = counted(self.resampling.replicates, "resampling", "resamplings")
        units = f"{times} of {counted(self.truth.families, *unit)}"
        images = counted(len(self.truth.images), "image", "images")
        objects = counted(len(self.truth.objects), "object", "objects")
        return f"{images}{kept}, {objects}; intervals by {units}"


def _cost(run: Run) -> dict[str, Any]:
    return {
        "results_per_image": {
            "mean": float(run.counts.mean()) if run.counts.size else None,
            "most": int(run.counts.max(initial=0)),
        },
        "seconds_per_image": _spread(run.seconds),
        "seconds_per_image_for_masks": _spread(run.mask_seconds),
        "peak_memory_bytes": run.peak_memory,
    }


def _cost_rows(run: Run) -> list[tuple[str, str]]:
    memory = ("peak memory", f"{run.peak_memory / 1e6:.0f} MB")
    if not run.seconds.size:
        return [memory]
    return [
        ("results per image, mean", f"{run.counts.mean():.1f}"),
        ("seconds per image, median", f"{np.median(run.seconds):.3f}"),
        ("... for run-length masks", f"{np.median(run.mask_seconds):.3f}"),
        memory,
    ]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _spread(seconds: Float64Array) -> dict[str, float | None]:
    if not seconds.size:
        return {"median": None, "p90": None, "mean": None, "first": None}
    return {
        "median": float(np.median(seconds)),
        "p90": float(np.percentile(seconds, 90)),
        "mean": float(seconds.mean()),
        "first": float(seconds[0]),
    }


def evaluate(
    pipeline: Pipeline,
    truth: GroundTruth,
    *,
    task: Task,
    most: int = 100,
    name: str = "pipeline",
    backend: str = "",
    resampling: Bootstrap | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Run a pipeline on a data set and measure its results.

    Args:
        pipeline: Pipeline, or any object with its two calls. For detections it must not drop those
            with low scores (``PipelineOptions(score_threshold=0.0)``), which would reduce recall.
        truth: Ground truth.
        task: "proposals" or "detections"; see ``Measurement``.
        most: Number of proposals per image that count; the pipeline must return as many
            (``PipelineOptions(top_k=...)``).
        name: Name of the pipeline, for the report.
        backend: Name of its backend, for the report.
        resampling: Settings of the intervals.
        progress: Called after each image.
    """
    resampling = resampling or Bootstrap()
    measurement = Measurement(truth, task=task, most=most)
    run = predict(pipeline, truth, task=task, take=measurement.add, progress=progress)
    return Report(
        task=task,
        subject=name,
        backend=backend,
        truth=truth,
        most=most,
        figures=measurement.figures(resampling),
        run=run,
        resampling=resampling,
    )


def evaluate_results(
    results: Results,
    truth: GroundTruth,
    *,
    task: Task,
    most: int = 100,
    resampling: Bootstrap | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Measure the results of another program, image by image; see ``evaluate`` for the arguments.

    ``results`` are those that ``read_results`` returned for this data set and task.

    Raises:
        DataError: A result is damaged; the message names it.
    """
    resampling = resampling or Bootstrap()
    measurement = Measurement(truth, task=task, most=most, regions=results.regions)
    for done, image in enumerate(truth.images, 1):
        measurement.add(image, results.of(image))
        progress("Evaluating", done, len(truth.images))
    return Report(
        task=task,
        subject=str(results.file),
        truth=truth,
        most=most,
        figures=measurement.figures(resampling),
        run=None,
        resampling=resampling,
    )
