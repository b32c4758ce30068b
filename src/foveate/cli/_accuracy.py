# SPDX-License-Identifier: Apache-2.0
"""`foveate verify --dataset`: average recall and precision of a bundle and of its reference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli._console import progress
from foveate.errors import DataError
from foveate.evaluation import GroundTruth, Resampling, evaluate
from foveate.evaluation.measure import Task
from foveate.export.checks.parity import reference_pipeline
from foveate.export.checks.record import Accuracy
from foveate.export.execution.subject import bundle_pipeline
from foveate.runtime import PipelineOptions

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.export.execution.reference import Reference
    from foveate.runtime import Pipeline

_JUDGED: Mapping[Task, tuple[str, ...]] = {
    "proposals": ("mask AR@10", "mask AR@100"),
    "detections": ("mask AP", "mask AP50"),
}


def compare_accuracy(
    bundle: Bundle,
    reference: Reference,
    dataset: Path,
    limit: int | None,
    *,
    emulate_fp16: bool = False,
) -> dict[str, Accuracy]:
    """Evaluate both on a COCO data set; return what is judged, by name.

    Stages in fp16 round as a GPU does where `emulate_fp16` asks for it.

    Raises:
        DataError: there is no such data set, or an object in it has no mask.
    """
    truth = GroundTruth.open(dataset, limit=limit)
    if truth.unmasked:
        raise DataError(
            f"{truth.unmasked} of {len(truth.objects)} objects have a box and no mask, and figures of "
            "masks are compared",
            file=dataset,
            remedy="outline these objects, or give another data set",
        )
    options = PipelineOptions(score_threshold=0.0)
    tasks: list[Task] = ["proposals", "detections"] if bundle.manifest.classifies else ["proposals"]
    found: dict[str, Accuracy] = {}
    with (
        reference_pipeline(bundle, reference, options) as expecting,
        bundle_pipeline(bundle, options, emulate_fp16=emulate_fp16) as finding,
    ):
        for task in tasks:
            expected, own = (
                _figures(pipeline, truth, task, f"{name}, {task}")
                for name, pipeline in (("Reference", expecting), ("Bundle", finding))
            )
            found |= {
                name: Accuracy(expected=expected[name], found=own[name])
                for name in _JUDGED[task]
                if name in expected
            }
    return found


def _figures(pipeline: Pipeline, truth: GroundTruth, task: Task, label: str) -> dict[str, float]:
    with progress() as advance:
        report = evaluate(
            pipeline,
            truth,
            task=task,
            resampling=Resampling(replicates=1),
            progress=partial(advance, label),
        )
    return {name: figure.value for name, figure in report.figures.items()}
