# SPDX-License-Identifier: Apache-2.0
"""Accuracy of proposals and detections by COCO's rules, with intervals, time and memory.

::

    truth = GroundTruth.open("data/mini/validation")
    pipeline = foveate.load("mini", options=foveate.Options(min_score=0.0))
    evaluate(pipeline, truth, task="proposals").figures["mask AR@100"].value
    evaluate(pipeline, truth, task="detections").figures["mask AP"].value

What another program found is measured by `measure`, from a COCO list of results.
"""

from __future__ import annotations

from foveate.training.evaluation.annotations import GroundTruth, Picture
from foveate.training.evaluation.bootstrap import Figure, Resampling
from foveate.training.evaluation.evaluate import evaluate
from foveate.training.evaluation.measure import measure
from foveate.training.evaluation.predict import Run, predict
from foveate.training.evaluation.report import Report

__all__ = [
    "Figure",
    "GroundTruth",
    "Picture",
    "Report",
    "Resampling",
    "Run",
    "evaluate",
    "measure",
    "predict",
]
