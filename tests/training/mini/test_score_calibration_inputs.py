# SPDX-License-Identifier: Apache-2.0
"""What scores are calibrated on: detections of a pipeline, and which of them are right."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.conftest import CLASSES, write_contrast_bundle
from tests.runtime.test_pipeline_oracle import colorful_image

import foveate
from foveate.bundle import ClassifySpec
from foveate.results.detections import Detection
from foveate.training.mini.score_calibration import _right, observe

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COEFFICIENTS = (0.3, 0.8, 0.4)


@dataclass
class Drawn:
    """Images, the shapes on them, and their classes."""

    images: list[np.ndarray]
    objects: list[list[tuple[int, np.ndarray]]]
    directory: Path = field(default_factory=Path)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def instances(self, index: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(label=label, mask=mask) for label, mask in self.objects[index]]


def drawn(height: int, width: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    image = colorful_image(height, width)
    masks = [image[..., channel] > 200 for channel in range(3)]
    return image, list(enumerate(masks))


@pytest.fixture(scope="module")
def data() -> Drawn:
    pairs = [drawn(240, 340), drawn(400, 280)]
    return Drawn([image for image, _ in pairs], [shapes for _, shapes in pairs])


def pipeline_of(folder: Path, calibration: tuple[float, float, float]) -> foveate.Pipeline:
    spec = ClassifySpec(
        delta_mean=(0.0,) * 4,
        delta_std=(1.0,) * 4,
        class_nms_iou=0.3,
        max_detections=60,
        calibration=calibration,
    )
    bundle = write_contrast_bundle(folder, classify=spec)
    return foveate.load(bundle, options=foveate.PipelineOptions(score_threshold=0.001))


def observed(pipeline: foveate.Pipeline, data: Any) -> tuple[np.ndarray, np.ndarray]:
    return observe(pipeline, data, lambda *_: None)


def test_calibrated_scores_follow_from_what_is_observed(data: Drawn, tmp_path: Path) -> None:
    """Of the rows and the coefficients the scores must follow that a pipeline with them gives."""
    with pipeline_of(tmp_path / "raw", (0.0, 1.0, 0.0)) as pipeline:
        rows, _ = observed(pipeline, data)
        raw = [pipeline(image) for image in data.images]
    with pipeline_of(tmp_path / "calibrated", COEFFICIENTS) as pipeline:
        found = [pipeline(image) for image in data.images]
    expected = 1 / (1 + np.exp(-rows @ COEFFICIENTS))
    keys = [(i, *key(one)) for i, detections in enumerate(raw) for one in detections]
    scores = {(i, *key(one)): one.score for i, detections in enumerate(found) for one in detections}
    common = [(scores[k], score) for k, score in zip(keys, expected, strict=True) if k in scores]
    assert len(common) >= 6
    assert np.ptp(rows[:, 2]) > 0.1
    given, wanted = np.transpose(common)
    np.testing.assert_allclose(given, wanted, atol=1e-4)


def key(one: Detection) -> tuple[Any, ...]:
    return (one.label, *one.box.tolist())


def test_a_detection_is_right_if_its_mask_and_class_are(data: Drawn, tmp_path: Path) -> None:
    with pipeline_of(tmp_path / "raw", (0.0, 1.0, 0.0)) as pipeline:
        _, right = observed(pipeline, data)
        wrong_classes = Drawn(
            data.images, [[((c + 1) % 3, mask) for c, mask in shapes] for shapes in data.objects]
        )
        detections = pipeline(data.image(0))
    assert 2 <= right.sum() <= 6  # of three shapes on each image, each at most once
    best = {}
    for row, one in enumerate(detections):
        truth = dict(data.objects[0])[one.label]
        iou = (one.mask & truth).sum() / (one.mask | truth).sum()
        if iou >= 0.5 and one.label not in best:
            best[one.label] = row
    assert np.flatnonzero(_right(detections, data, 0)).tolist() == sorted(best.values())  # type: ignore[arg-type]  # a stand-in
    assert len(best) < len(detections)
    assert {CLASSES[label] for label in best} <= {"red", "green", "blue"}
    assert _right(detections, wrong_classes, 0).sum() < len(best)  # type: ignore[arg-type]  # a stand-in
