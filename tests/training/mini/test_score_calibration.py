# SPDX-License-Identifier: Apache-2.0
"""Calibrated scores: the regression, what it is fitted on, and when it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import foveate
from foveate.bundle import Bundle
from foveate.datasets import CocoDataset
from foveate.errors import BackendError
from foveate.models.checkpoint import CascadeInfo, build_cascade, load_checkpoint, save_checkpoint
from foveate.training.mini import score_calibration
from foveate.training.mini.score_calibration import fit_logistic

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_coefficients_that_made_the_data_are_found_again() -> None:
    rng = np.random.default_rng(0)
    inputs = np.column_stack([np.ones(200_000), rng.normal(size=(200_000, 2))])
    truth = np.array([-1.0, 0.7, 0.3])
    right = rng.random(len(inputs)) < 1 / (1 + np.exp(-inputs @ truth))
    np.testing.assert_allclose(fit_logistic(inputs, right), truth, atol=0.03)


def test_scores_are_the_share_of_what_is_right() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(size=50_000) * 2
    right = rng.random(len(logit)) < 1 / (1 + np.exp(-(0.5 * logit - 1)))  # overconfident by two
    inputs = np.column_stack([np.ones(len(logit)), logit, np.zeros(len(logit))])
    scores = 1 / (1 + np.exp(-inputs @ fit_logistic(inputs, right)))
    for low in (0.1, 0.3, 0.5):
        chosen = (scores >= low) & (scores < low + 0.1)
        assert abs(right[chosen].mean() - scores[chosen].mean()) < 0.03


def write_drawing(directory: Path, *, discs: int) -> CocoDataset:
    """One image of a disc on gray, annotated so many times over."""
    (directory / "images").mkdir(parents=True)
    image = np.full((240, 320, 3), 128, np.uint8)
    cv2.circle(image, (160, 120), 45, (30, 60, 200), -1)
    cv2.imwrite(str(directory / "images" / "1.png"), image)
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    outline = np.stack([160 + 45 * np.cos(angles), 120 + 45 * np.sin(angles)], axis=1)
    one = {"image_id": 1, "iscrowd": 0, "bbox": [115, 75, 90, 90], "area": 6300}
    one["segmentation"] = [outline.ravel().tolist()]
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 240, "width": 320}],
        "annotations": [{**one, "id": i + 1, "category_id": 1 + i % 10} for i in range(discs)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate("abcdefghij")],
    }
    (directory / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return CocoDataset(directory)


@pytest.fixture(scope="module")
def pipeline() -> foveate.Pipeline:
    return foveate.load("mini", options=foveate.PipelineOptions(score_threshold=0.01))


def test_every_detection_is_regarded_where_some_windows_are_empty(
    tmp_path: Path, pipeline: foveate.Pipeline
) -> None:
    dataset = write_drawing(tmp_path, discs=10)
    image = dataset.image(0)
    proposals, detections = pipeline.propose(image), pipeline(image)
    assert len(proposals) < pipeline.bundle.manifest.select.top_k
    assert len(detections)
    for index, rank in enumerate(detections.proposals.tolist()):
        np.testing.assert_array_equal(detections.masks[index], proposals.masks[rank])
    inputs, right = score_calibration.observe(pipeline, dataset, lambda *_: None)
    assert inputs.shape == (len(detections), 3)
    np.testing.assert_allclose(
        inputs[:, 2], score_calibration._logit(proposals.scores)[detections.proposals]
    )
    assert right.any()


@pytest.mark.parametrize(
    ("counts", "fitted"), [((0, 30), False), ((9, 30), False), ((10, 30), True), ((30, 9), False)]
)
def test_too_few_right_or_wrong_detections_keep_the_calibration_and_say_so(
    counts: tuple[int, int],
    fitted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    info = CascadeInfo(
        proposals="sharpmask-mini", classifier="multipathnet-mini", class_names=tuple("abcdefghij")
    )
    before = (-1.0, 0.5, 0.25)
    checkpoint = tmp_path / "mini.safetensors"
    save_checkpoint(checkpoint, build_cascade(replace(info, calibration=before)))
    rng = np.random.default_rng(0)
    right = np.repeat([True, False], counts)
    inputs = np.column_stack(
        [np.ones(len(right)), rng.normal(size=(len(right), 2)) + right[:, None]]
    )
    monkeypatch.setattr(score_calibration, "export_bundle", lambda *_: Bundle.open("mini"))
    observed: list[foveate.Pipeline] = []

    def observe(pipeline: foveate.Pipeline, *_: object) -> tuple[np.ndarray, np.ndarray]:
        observed.append(pipeline)
        return inputs, right

    monkeypatch.setattr(score_calibration, "observe", observe)
    dataset = write_drawing(tmp_path / "data", discs=1)
    found = score_calibration.calibrate(checkpoint, dataset)
    assert (found != before) == fitted
    assert ("the scores keep their calibration" in caplog.text) != fitted
    assert load_checkpoint(checkpoint).info.calibration == found
    assert score_calibration.calibrate(checkpoint, dataset) == found
    assert len(observed) == 1  # the same images are not run again
    with pytest.raises(BackendError, match="the pipeline is closed"):
        observed[0].propose(dataset.path(0))
