# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline once more, slowly and in plain numpy, without devices, engines or ONNX.

It shares one thing with the real one, the resampling of levels: OpenCV rounds some pixels to the
next of 256 steps, which would let windows of nearly equal score change places.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_contrast_bundle

import foveate
from foveate.arrays import UInt8Array
from foveate.bundle import (
    Bundle,
    ClassifySpec,
    FeaturesSpec,
    Manifest,
    MaskSpec,
    PreprocessingSpec,
    SelectSpec,
)
from foveate.images.resampling import resample
from foveate.kernels.mask_boxes.reference import paste, tight_box
from foveate.kernels.nms.reference import nms
from foveate.kernels.plugins.roi_max_pool.reference import roi_max_pool
from foveate.kernels.postprocess.reference import Detection, postprocess
from foveate.kernels.select_top_k.reference import select_top_k


def colorful_image(height: int, width: int) -> UInt8Array:
    """Return a dark image with a red square, a green bar and a blue blob."""
    image = np.full((height, width, 3), 12, np.uint8)
    image[height // 5 : height // 2, width // 8 : width // 3] = (250, 5, 10)
    image[height // 8 : height // 3, width // 2 : width - width // 8] = (0, 240, 20)
    rows, columns = np.mgrid[:height, :width]
    blob = np.hypot(rows - 0.75 * height, columns - 0.6 * width) < 0.15 * min(height, width)
    image[blob] = (5, 10, 255)
    return image


def scaled(side: int, scale: float) -> int:
    return max(1, int(np.floor(scale * side + 0.5)))


def pooled(canvas: np.ndarray, size: int) -> np.ndarray:
    channels, height, width = canvas.shape
    canvas = canvas[:, : height // size * size, : width // size * size]
    cells = canvas.reshape(channels, height // size, size, width // size, size)
    return np.asarray(cells.mean(axis=(2, 4)))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return shared / (sum(areas) - shared)


class Oracle:
    """The contrast bundle's meaning, for one image."""

    def __init__(self, manifest: Manifest, image: UInt8Array) -> None:
        self.manifest = manifest
        self.height, self.width = image.shape[:2]
        shrink = min(1.0, manifest.pyramid.max_side / max(self.height, self.width))
        size = scaled(self.height, shrink), scaled(self.width, shrink)
        self.working = resample(image, *size)

    def canvas(self, height: int, width: int, border: int, multiple: int) -> np.ndarray:
        level = resample(self.working, height, width)
        sides = [multiple * -(-(side + 2 * border) // multiple) for side in (height, width)]
        numbers = self.manifest.preprocessing
        canvas = np.full((3, *sides), numbers.fill, np.float64)
        canvas[:, border : border + height, border : border + width] = level.transpose(2, 0, 1)
        mean, std = (np.array(values)[:, None, None] for values in (numbers.mean, numbers.std))
        return np.asarray((canvas - mean) / std)

    def windows(self) -> list[tuple[float, tuple[float, ...], np.ndarray]]:
        """Return (score, geometry, logits) of the windows, best first."""
        height, width = self.working.shape[:2]
        canvases, grids, factors = [], [], []
        for scale in self.manifest.pyramid.scales:
            size = scaled(height, scale), scaled(width, scale)
            canvas = self.canvas(*size, border=80, multiple=16)
            canvases.append(canvas)
            factors.append((self.width / size[1], self.height / size[0]))
            grids.append(self.scores(canvas)[None, None])
        select = self.manifest.select
        best = select_top_k(
            grids, select.top_k, factors=factors, size=160, stride=16, padding=80,
            window_nms_iou=select.window_nms_iou,
        )  # fmt: skip
        return [
            (score, geometry, self.logits(canvases[level], row, column))
            for score, (level, row, column), geometry in best
        ]

    def scores(self, canvas: np.ndarray) -> np.ndarray:
        light = canvas.sum(axis=0) + 2 * 127 / 128
        rows, columns = (side // 16 - 9 for side in light.shape)
        grid = np.empty((rows, columns), np.float32)
        y, x = np.mgrid[:160, :160] // 8
        middle = (abs(y - 9.5) < 5) & (abs(x - 9.5) < 5)
        weights = np.where(middle, 1 / 6400, -1 / 19200) * (1 + 0.004 * y + 0.0017 * x)
        for row in range(rows):
            for column in range(columns):
                window = light[16 * row : 16 * row + 160, 16 * column : 16 * column + 160]
                grid[row, column] = (window * weights).sum()
        return grid

    def logits(self, canvas: np.ndarray, row: int, column: int) -> np.ndarray:
        window = canvas[:, 16 * row : 16 * row + 160, 16 * column : 16 * column + 160]
        light = window.sum(axis=0, keepdims=True) + 2 * 127 / 128
        logits = sum(
            pooled(light, size)[0].repeat(size, axis=0).repeat(size, axis=1)
            for size in (16, 8, 4, 2)
        )
        shifted: np.ndarray = logits + window[:, 40:120, 40:120].mean()
        return shifted.astype(np.float32)

    def proposals(self) -> list[tuple[float, list[float]]]:
        """Return (score, box) of the windows with a mask, best first."""
        boxes, scores, kept = self.suppressed()
        found = []
        for index in np.flatnonzero(boxes[:, 2] > 0):
            better = [k for k in kept if index not in kept and scores[k] >= scores[index]]
            hidden = max((iou(boxes[k], boxes[index]) for k in better), default=0.0)
            score = (1 - hidden) / (1 + np.exp(-float(scores[index])))
            found.append((score, boxes[index].tolist()))
        return sorted(found, key=lambda one: -one[0])

    def suppressed(self) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Return the boxes and scores of all windows, and the indices of those that are kept."""
        boxes, scores = [], []
        for score, geometry, logits in self.windows():
            single = np.array(geometry, np.float32).tolist()
            mask, _ = paste(logits, single, self.manifest.mask.threshold, self.height, self.width)
            boxes.append(tight_box(mask))
            scores.append(score)
        frame, given = np.array(boxes, np.float32), np.array(scores, np.float32)
        kept = nms(frame, given, None, self.manifest.select.proposal_nms_iou, len(frame))
        return frame, given, kept

    def detections(self) -> list[Detection]:
        features, spec = self.manifest.features, self.manifest.classify
        assert features is not None
        assert spec is not None
        boxes, scores, kept = self.suppressed()
        height, width = self.working.shape[:2]
        scale = min(
            features.short_side / min(height, width), features.long_side / max(height, width)
        )
        border, multiple = 0, 32
        if self.manifest.shares_trunk:
            border, multiple = 80, 16
            octaves = [abs(np.log2(one) - np.log2(scale)) for one in self.manifest.pyramid.scales]
            scale = self.manifest.pyramid.scales[int(np.argmin(octaves))]
        seen = scaled(height, scale), scaled(width, scale)
        canvas = self.canvas(*seen, border=border, multiple=multiple)
        factors = np.array([seen[1] / self.width, seen[0] / self.height] * 2, np.float32)
        probabilities = self.probabilities(canvas, boxes[kept] * factors + np.float32(border))
        deltas = np.zeros((len(kept), 4, 4), np.float32)
        deltas[:, 2] = (0.1, -0.1, 0.2, -0.2)
        return postprocess(
            probabilities, deltas, boxes, scores, kept, spec.max_detections, mean=spec.delta_mean,
            std=spec.delta_std, calibration=spec.calibration, score_threshold=0.3, iou=spec.class_nms_iou,
            height=self.height, width=self.width,
        )  # fmt: skip

    def probabilities(self, canvas: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        rois = np.concatenate([np.zeros((len(boxes), 1)), boxes], axis=1).astype(np.float32)
        maps = [pooled(canvas, stride)[None].astype(np.float32) for stride in (8, 16, 32)]
        strides = zip(maps, (8, 16, 32), strict=True)
        colors = np.mean([roi_max_pool(m, rois, 1, 1 / s)[:, :, 0, 0] for m, s in strides], axis=0)
        logits = np.concatenate([np.zeros((len(boxes), 1)), 8 * colors], axis=1)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


SIZES = [(120, 170), (200, 140), (64, 300), (300, 420)]


def write_uneven_bundle(directory: Path, *, shares: bool = False) -> Path:
    """Write a contrast bundle with numbers that all tell when they are exchanged or left out."""
    return write_contrast_bundle(
        directory,
        shares=shares,
        preprocessing=PreprocessingSpec(mean=(120, 127, 131), std=(125, 128, 134), fill=9),
        select=SelectSpec(top_k=17, window_nms_iou=0.7, proposal_nms_iou=0.7),
        mask=MaskSpec(size=160, threshold=0.31),
        features=FeaturesSpec(short_side=112, long_side=200),
        classify=ClassifySpec(
            delta_mean=(0.05, -0.08, 0.11, -0.06),
            delta_std=(0.7, 1.3, 0.8, 1.4),
            class_nms_iou=0.45,
            max_detections=6,
            calibration=(0.4, 0.8, 0.3),
        ),
    )


@pytest.fixture(scope="module")
def uneven_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_uneven_bundle(tmp_path_factory.mktemp("uneven") / "bundle")


@pytest.fixture(scope="module")
def uneven_sharing_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_uneven_bundle(tmp_path_factory.mktemp("uneven") / "sharing", shares=True)


BUNDLES = ("contrast_bundle", "sharing_bundle", "uneven_bundle", "uneven_sharing_bundle")


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    path: Path = request.getfixturevalue(request.param)
    return Bundle.open(path)


@pytest.mark.parametrize("size", SIZES)
def test_proposals_are_those_of_the_oracle(bundle: Bundle, size: tuple[int, int]) -> None:
    image = colorful_image(*size)
    with foveate.load(bundle.root) as pipeline:
        found = pipeline.propose(image)
    expected = Oracle(bundle.manifest, image).proposals()
    assert found.scores == pytest.approx([score for score, _ in expected], abs=1e-5)
    assert found.boxes.tolist() == [box for _, box in expected]


@pytest.mark.parametrize("size", SIZES)
def test_detections_are_those_of_the_oracle(bundle: Bundle, size: tuple[int, int]) -> None:
    image = colorful_image(*size)
    options = foveate.PipelineOptions(score_threshold=0.3)
    with foveate.load(bundle.root, options=options) as pipeline:
        found = pipeline(image)
    expected = Oracle(bundle.manifest, image).detections()
    assert len(set(found.names)) >= 2
    assert found.labels.tolist() == [label for _, _, label, _ in expected]
    assert found.scores == pytest.approx([score for _, score, *_ in expected], abs=1e-5)
    assert np.abs(found.boxes - np.array([box for box, *_ in expected])).max() < 1e-3
