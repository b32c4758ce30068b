# SPDX-License-Identifier: Apache-2.0
"""Evaluations, and their reports: JSON for programs, a table for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from foveate.evaluation.annotations import GroundTruth
from foveate.evaluation.bootstrap import Figure, Resampling
from foveate.evaluation.measure import Measurement, Task
from foveate.evaluation.predict import Pipeline, Run, predict
from foveate.evaluation.results import Results

_SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures with intervals, and what they cost.

    Attributes:
        task: "proposals" or "detections".
        subject: Name of what was evaluated: a bundle, or a file of results.
        truth: What it was evaluated on.
        most: Proposals of an image that counted, K.
        figures: By name, in the order of the table.
        run: Time and memory; None where results came from a file.
        backend: What ran the networks; "" where it is not known.
        resampling: How the intervals were made.
    """

    task: Task
    subject: str
    truth: GroundTruth
    most: int
    figures: dict[str, Figure]
    run: Run | None
    resampling: Resampling
    backend: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything but the results, with null for what could not be measured."""
        return {
            "schema": _SCHEMA,
            "task": self.task,
            "subject": self.subject,
            "backend": self.backend or None,
            **({"proposals_an_image": self.most} if self.task == "proposals" else {}),
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
        """A table for a terminal, without the figures that there were no objects for."""
        by = f" by {self.backend}" if self.backend else ""
        table = Table(
            title=f"{self.task} of {self.subject}{by} on {self.truth.name}", title_justify="left"
        )
        table.add_column("figure")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        region = ""
        for name, figure in self.figures.items():
            if math.isnan(figure.value):
                continue  # no such objects: the JSON says so, a person need not read it
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
        plural = {"family": "families of cut-outs", "object": "single objects"}[self.truth.unit]
        kept = f", at most {self.most} proposals each" if self.task == "proposals" else ""
        return (
            f"{len(self.truth.images)} images{kept}, {len(self.truth.objects)} objects; "
            f"intervals by {self.resampling.replicates} resamplings of {self.truth.families} "
            f"{plural}"
        )


def _cost(run: Run) -> dict[str, Any]:
    return {
        "results_an_image": {
            "mean": float(run.counts.mean()) if run.counts.size else None,
            "most": int(run.counts.max(initial=0)),
        },
        "seconds_an_image": _spread(run.seconds),
        "seconds_an_image_for_masks": _spread(run.mask_seconds),
        "peak_memory_bytes": run.peak_memory,
    }


def _cost_rows(run: Run) -> list[tuple[str, str]]:
    rows = []
    if run.seconds.size:
        rows += [
            ("results an image, mean", f"{run.counts.mean():.1f}"),
            ("seconds an image, median", f"{np.median(run.seconds):.3f}"),
            ("... for run-length masks", f"{np.median(run.mask_seconds):.3f}"),
        ]
    return [*rows, ("peak memory", f"{run.peak_memory / 1e6:.0f} MB")]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _spread(seconds: NDArray[np.float64]) -> dict[str, float | None]:
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
    resampling: Resampling | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Run a pipeline on a data set and measure what it finds.

    Args:
        pipeline: A `foveate.Pipeline` or anything with its two calls. For detections it must not
            leave out the doubtful ones (`PipelineOptions(score_threshold=0.0)`), or recall is cut short.
        truth: Images and what is in them.
        task: "proposals" or "detections"; see `measure`.
        most: Proposals of an image that count. What the pipeline gives must not be fewer for want
            of asking (`PipelineOptions(top_k=...)`).
        name: Of the pipeline, for the report.
        backend: What runs it, for the report.
        resampling: For the intervals.
        progress: Called after each image with the images done and the images in all.
    """
    resampling = resampling or Resampling()
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
    resampling: Resampling | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure what another program found, an image at a time.

    Args:
        results: As `read_results` gives them for this data set and task.
        truth: Images and what is in them.
        task: "proposals" or "detections"; see `measure`.
        most: Proposals of an image that count.
        resampling: For the intervals.
        progress: Called after each image with the images done and the images in all.

    Raises:
        DataError: A result is damaged; the text says which.
    """
    resampling = resampling or Resampling()
    measurement = Measurement(truth, task=task, most=most, regions=results.regions)
    for done, image in enumerate(truth.images, 1):
        measurement.add(image, results.of(image))
        if progress is not None:
            progress(done, len(truth.images))
    return Report(
        task=task,
        subject=str(results.file),
        truth=truth,
        most=most,
        figures=measurement.figures(resampling),
        run=None,
        resampling=resampling,
    )
