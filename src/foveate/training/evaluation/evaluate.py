# SPDX-License-Identifier: Apache-2.0
"""The whole evaluation: run, measure, report."""

from __future__ import annotations

from collections.abc import Callable

from foveate.training.evaluation.annotations import GroundTruth
from foveate.training.evaluation.bootstrap import Resampling
from foveate.training.evaluation.measure import Measurement, Task
from foveate.training.evaluation.predict import Pipeline, predict
from foveate.training.evaluation.report import Report
from foveate.training.evaluation.results import Results

__all__ = ["evaluate", "evaluate_results"]


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
            leave out the doubtful ones (`Options(min_score=0.0)`), or recall is cut short.
        truth: Pictures and what is in them.
        task: "proposals" or "detections"; see `measure`.
        most: Proposals of a picture that count. What the pipeline gives must not be fewer for want
            of asking (`Options(top_k=...)`).
        name: Of the pipeline, for the report.
        backend: What runs it, for the report.
        resampling: For the intervals.
        progress: Called after each picture with the pictures done and the pictures in all.
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
    """Measure what another program found, a picture at a time.

    Args:
        results: As `read_results` gives them for this data set and task.
        truth: Pictures and what is in them.
        task: "proposals" or "detections"; see `measure`.
        most: Proposals of a picture that count.
        resampling: For the intervals.
        progress: Called after each picture with the pictures done and the pictures in all.

    Raises:
        DataError: A result is damaged; the text says which.
    """
    resampling = resampling or Resampling()
    measurement = Measurement(truth, task=task, most=most, regions=results.regions)
    for done, picture in enumerate(truth.pictures, 1):
        measurement.add(picture, results.of(picture))
        if progress is not None:
            progress(done, len(truth.pictures))
    return Report(
        task=task,
        subject=str(results.file),
        truth=truth,
        most=most,
        figures=measurement.figures(resampling),
        run=None,
        resampling=resampling,
    )
