# SPDX-License-Identifier: Apache-2.0
"""Calibration: the score of a detection becomes the share of such detections that are right.

Platt, "Probabilistic Outputs for Support Vector Machines" (1999): a logistic regression, here on
two numbers of a detection, the log-odds of its class and the objectness of its proposal.
"""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pycocotools import mask as coco_mask

import foveate
from foveate.arrays import BoolArray, Float32Array, Float64Array
from foveate.datasets import CocoDataset
from foveate.export.bundle_export import export_bundle
from foveate.models.checkpoint import load_checkpoint, save_checkpoint
from foveate.plain_text import counted
from foveate.progress import Progress, no_progress

RIGHT_IOU = 0.5  # mask IoU from which a detection of the right class counts as right
LEAST_RIGHT = 10  # fewest right, and fewest wrong, detections for a fit of three coefficients
_IDENTITY = (0.0, 1.0, 0.0)
_LEAST_SCORE = 0.01

_log = logging.getLogger(__name__)


def calibrate(
    checkpoint: Path, dataset: CocoDataset, progress: Progress = no_progress
) -> tuple[float, float, float]:
    """Fit the calibration of a checkpoint to images, and write it back, unless this was done.

    With fewer than ``LEAST_RIGHT`` right or wrong detections the calibration is kept, and a line is
    logged.

    Args:
        checkpoint: Checkpoint of a whole cascade.
        dataset: Images that were not trained on.
        progress: Called with the number of finished images.

    Returns:
        (c0, c1, c2): score = sigmoid(c0 + c1 * logit(probability) + c2 * logit(objectness)).
    """
    cascade = load_checkpoint(checkpoint)
    used = counted(len(dataset), "image", "images")
    notes = {"calibrated on": f"{used}, {dataset.digest[:12]}"}
    if notes.items() <= cascade.info.training.items():
        return cascade.info.calibration
    # Scores must be uncalibrated while their calibration is fitted.
    raw = replace(cascade.info, calibration=_IDENTITY)
    with TemporaryDirectory() as scratch:
        bundle = export_bundle(replace(cascade, info=raw), Path(scratch) / "bundle")
        every = foveate.PipelineOptions(score_threshold=_LEAST_SCORE)
        with foveate.load(bundle.root, options=every) as pipeline:
            inputs, right = observe(pipeline, dataset, progress)
    calibration = cascade.info.calibration
    if LEAST_RIGHT <= right.sum() <= len(right) - LEAST_RIGHT:
        calibration = tuple(fit_logistic(inputs, right).tolist())
    else:
        _log.warning(
            "the scores keep their calibration: %d of %s in %s are right, and a new one needs at "
            "least %d that are right and %d that are wrong",
            right.sum(),
            counted(len(right), "detection", "detections"),
            counted(len(dataset), "held-out image", "held-out images"),
            LEAST_RIGHT,
            LEAST_RIGHT,
        )
    training = {**cascade.info.training, **notes}
    info = replace(cascade.info, calibration=calibration, training=training)
    save_checkpoint(checkpoint, replace(cascade, info=info))
    return calibration


def observe(
    pipeline: foveate.Pipeline, dataset: CocoDataset, progress: Progress
) -> tuple[Float64Array, BoolArray]:
    """Return (N, 3) rows of 1, class log-odds and objectness, and (N,) whether each is right."""
    inputs, right = [np.zeros((0, 3))], [np.zeros(0, bool)]
    for index in range(len(dataset)):
        image = dataset.image(index)
        proposals = pipeline.propose(image)
        progress("calibration", index + 1, len(dataset))
        detections = pipeline(image)
        objectness = _logit(proposals.scores)[detections.proposals]
        ones = np.ones(len(detections))
        inputs.append(np.stack([ones, _logit(detections.scores), objectness], axis=1))
        right.append(_right(detections, dataset, index))
    return np.concatenate(inputs), np.concatenate(right)


def _right(detections: foveate.Detections, dataset: CocoDataset, index: int) -> BoolArray:
    """Match detections, best first, with objects of their class, each object once."""
    instances = dataset.instances(index)
    truths = [coco_mask.encode(np.asfortranarray(instance.mask)) for instance in instances]
    right = np.zeros(len(detections), bool)
    if not truths or not len(detections):
        return right
    iou = np.asarray(coco_mask.iou(detections.masks.rle(), truths, [False] * len(truths)))
    same = detections.labels[:, None] == np.array([i.label for i in instances])[None]
    iou = np.where(same, iou, 0.0)
    for row in range(len(detections)):
        best = int(iou[row].argmax())
        if iou[row, best] >= RIGHT_IOU:
            right[row] = True
            iou[:, best] = 0.0  # each object is matched once
    return right


def _logit(probability: Float32Array) -> Float64Array:
    p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def fit_logistic(inputs: Float64Array, right: BoolArray) -> Float64Array:
    """Fit a slightly regularized logistic regression by Newton's method, which needs ten steps.

    Returns:
        (D,) coefficients of (N, D) inputs, a column of ones first, for (N,) labels.
    """
    weights = np.zeros(inputs.shape[1])
    ridge = 1e-3 * np.eye(inputs.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (p - right) + ridge @ weights
        curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs + ridge
        weights -= np.linalg.solve(curvature, gradient)
    return weights
