# SPDX-License-Identifier: Apache-2.0
"""The whole evaluation: run, measure, report."""

from __future__ import annotations

from collections.abc import Callable

from foveate.training.evaluation.annotations import GroundTruth
from foveate.training.evaluation.bootstrap import Resampling
from foveate.training.evaluation.measure import Measurement, Task
from foveate.training.evaluation.predict import Pipeline, predict
from foveate.training.evaluation.report import Report

__all__ = ["evaluate"]


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
