# SPDX-License-Identifier: Apache-2.0
"""Accuracy of proposals and detections by COCO's rules, with intervals, time and memory.

::

    truth = GroundTruth.open("data/mini/validation")
    pipeline = foveate.load("mini", options=foveate.PipelineOptions(score_threshold=0.0, top_k=1000))
    evaluate(pipeline, truth, task="proposals", most=1000).figures["mask AR@1000"].value
    evaluate(pipeline, truth, task="detections").figures["mask AP"].value

Results of another program are read by ``read_results`` and measured by ``evaluate_results``. A
``Measurement`` takes results image by image and keeps none of them.
"""

from foveate.evaluation.annotations import GroundTruth, Image
from foveate.evaluation.bootstrap import Bootstrap, Estimate
from foveate.evaluation.evaluate import Report, evaluate, evaluate_results
from foveate.evaluation.measure import Measurement
from foveate.evaluation.predict import Run, predict
from foveate.evaluation.results import Results, read_results

__all__ = [
    "Bootstrap",
    "Estimate",
    "GroundTruth",
    "Image",
    "Measurement",
    "Report",
    "Results",
    "Run",
    "evaluate",
    "evaluate_results",
    "predict",
    "read_results",
]
