# SPDX-License-Identifier: Apache-2.0
"""The whole evaluation: run, measure, report."""

from __future__ import annotations

from collections.abc import Callable

from foveate.training.evaluation.annotations import GroundTruth
from foveate.training.evaluation.bootstrap import Resampling
from foveate.training.evaluation.measure import Task, measure
from foveate.training.evaluation.predict import Pipeline, predict
from foveate.training.evaluation.report import Report

__all__ = ["evaluate"]


def evaluate(
    pipeline: Pipeline,
    truth: GroundTruth,
    *,
    task: Task,
    name: str = "pipeline",
    resampling: Resampling | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Run a pipeline on a data set and measure what it finds.

    Args:
        pipeline: A `foveate.Pipeline` or anything with its two calls. For detections it must not
            leave out the doubtful ones (`Options(min_score=0.0)`), or recall is cut short.
        truth: Pictures and what is in them.
        task: "proposals" or "detections"; see `measure`.
        name: Of the pipeline, for the report.
        resampling: For the intervals.
        progress: Called after each picture with the pictures done and the pictures in all.
    """
    resampling = resampling or Resampling()
    run = predict(pipeline, truth, task=task, progress=progress)
    return Report(
        task=task,
        bundle=name,
        truth=truth,
        figures=measure(truth, run.results, task=task, resampling=resampling),
        run=run,
        resampling=resampling,
    )
