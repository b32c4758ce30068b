# SPDX-License-Identifier: Apache-2.0
"""The accuracy of the configuration that is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foveate.evaluation import evaluate

if TYPE_CHECKING:
    from foveate.evaluation import GroundTruth
    from foveate.evaluation.measure import Task
    from foveate.progress import Progress
    from foveate.runtime import Pipeline


def measure_accuracy(
    pipeline: Pipeline,
    truth: GroundTruth,
    *,
    most: int | None = None,
    backend: str,
    progress: Progress,
) -> dict[str, Any]:
    """Return the reports for proposals and, if bundle and data set share classes, for detections.

    Args:
        pipeline: Pipeline with the options that were timed, except for a score threshold of 0:
            average precision is taken over all scores.
        truth: Ground truth.
        most: Number of proposals per image that count; by default as many as are refined.
        backend: Name of the backend, for the reports.
        progress: Called after each image.
    """
    manifest = pipeline.options.applied_to(pipeline.bundle.manifest)
    named = "classify" in pipeline.engines and truth.category_ids.keys() & {*manifest.class_names}
    tasks: tuple[Task, ...] = ("proposals", "detections") if named else ("proposals",)
    return {
        task: evaluate(
            pipeline,
            truth,
            task=task,
            most=most or manifest.select.top_k,
            name=manifest.name,
            backend=backend,
            progress=progress,
        ).to_json()
        for task in tasks
    }
