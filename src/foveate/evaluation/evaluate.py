# SPDX-License-Identifier: Apache-2.0
"""The whole evaluation: run, measure, report."""

from __future__ import annotations

from collections.abc import Callable

from foveate.evaluation.annotations import GroundTruth
from foveate.evaluation.bootstrap import Resampling
from foveate.evaluation.measure import Measurement, Task
from foveate.evaluation.predict import Pipeline, predict
from foveate.evaluation.report import Report
from foveate.evaluation.results import Results


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
