# SPDX-License-Identifier: Apache-2.0
"""The record of an image: what its page shows."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tests.samples.paths import CAT

import foveate
from foveate.arrays import BoolArray, UInt8Array
from foveate.images.reading import read_image
from foveate.page import SCORE_THRESHOLD, page_record
from foveate.page.paths import path_of
from foveate.results.detections import Findings
from foveate.results.outline import outline_runs
from foveate.results.window_masks import of_windows
from foveate.runtime import Pipeline, PipelineOptions

SCALE = 8  # sub-pixels per pixel and axis, where paths are drawn


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    options = PipelineOptions(score_threshold=SCORE_THRESHOLD, top_k=40)
    with foveate.load("mini", options=options) as opened:
        yield opened


@pytest.fixture(scope="module")
def image() -> UInt8Array:
    return cv2.resize(read_image(CAT), (320, 213), interpolation=cv2.INTER_AREA).astype(np.uint8)


@pytest.fixture(scope="module")
def findings(pipeline: Pipeline, image: UInt8Array) -> Findings:
    return pipeline.find(image)


@pytest.fixture(scope="module")
def record(pipeline: Pipeline, image: UInt8Array, findings: Findings) -> dict[str, Any]:
    stages = {"propose": 12.345, "other": 1.0}
    return page_record(
        "a/cat.jpg", findings, pipeline.manifest, image=image, stages=stages, score_threshold=0.4
    )


def polygons_of(path: str) -> list[list[tuple[int, int]]]:
    """The points of a path of SVG with the commands M, l, h, v and z."""
    polygons: list[list[tuple[int, int]]] = []
    x = y = 0
    for command, numbers in re.findall(r"([Mlhvz])([-\d ]*)", path):
        values = [int(number) for number in numbers.split()]
        if command == "M":
            x, y = values
            polygons.append([])
        elif command != "z":
            x += values[0] if command in "lh" else 0
            y += values[-1] if command in "lv" else 0
        if command != "z":
            polygons[-1].append((x, y))
    return polygons


def paint(path: str, height: int, width: int) -> BoolArray:
    """The pixels of which a path covers at least a half, by the even-odd rule."""
    fine = np.zeros((height * SCALE, width * SCALE), np.uint8)
    # OpenCV draws from the middle of a pixel to the middle of another one.
    scaled = [np.array(one) * SCALE - 0.5 for one in polygons_of(path)]
    cv2.fillPoly(fine, [np.round(one * 256).astype(np.int32) for one in scaled], 1, shift=8)
    shares = fine.reshape(height, SCALE, width, SCALE).mean((1, 3))
    painted: BoolArray = shares >= 0.5
    return painted


def overlap(mask: BoolArray, other: BoolArray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def test_paths_reproduce_the_masks(findings: Findings, record: dict[str, Any]) -> None:
    masks = findings.proposals.masks
    overlaps = [
        overlap(mask, paint(one["path"], *mask.shape))
        for mask, one in zip(masks, record["proposals"], strict=True)
    ]
    assert len(overlaps) == 40
    assert min(overlaps) >= 0.98


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 8, 13, 21, 60])
def test_a_path_of_a_disk_of_any_size_reproduces_it(radius: int) -> None:
    rows, columns = np.ogrid[:130, :150]
    disk = (rows - 64.3) ** 2 + (columns - 70.8) ** 2 <= radius**2
    disk &= (rows - 64.3) ** 2 + (columns - 72.1) ** 2 > radius**2 / 5
    steps = np.diff(np.pad(disk, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
    runs = (*np.nonzero(steps == 1), np.nonzero(steps == -1)[1])
    path = path_of(outline_runs(*runs), int(disk.sum()), 150)
    assert overlap(disk, paint(path, *disk.shape)) >= 0.98


def test_a_path_of_a_large_mask_is_short() -> None:
    rows, columns = np.ogrid[:3000, :4000]
    disk = (rows - 1500) ** 2 + (columns - 2000) ** 2 <= 1400**2
    steps = np.diff(np.pad(disk, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
    runs = (*np.nonzero(steps == 1), np.nonzero(steps == -1)[1])
    assert len(path_of(outline_runs(*runs), int(disk.sum()), 4000)) < 1000


def test_a_record_has_what_was_found(findings: Findings, record: dict[str, Any]) -> None:
    detections, proposals = findings.detections, findings.proposals
    assert len(detections) > 0
    assert [one["class"] for one in record["detections"]] == detections.labels.tolist()
    np.testing.assert_allclose(
        [one["score"] for one in record["detections"]], detections.scores, atol=1e-4
    )
    np.testing.assert_allclose(
        [one["box"] for one in record["detections"]], detections.boxes, atol=0.051
    )
    np.testing.assert_allclose(
        [one["score"] for one in record["proposals"]], proposals.scores, atol=1e-4
    )
    assert [one["area"] for one in record["proposals"]] == proposals.masks.areas().tolist()
    assert record["classes"] == list(detections.class_names)
    assert (record["width"], record["height"]) == (320, 213)
    assert record["stages"] == {"propose": 12.35, "other": 1.0}
    assert record["score_threshold"] == 0.4


def test_a_detection_has_the_mask_of_its_proposal(pipeline: Pipeline, findings: Findings) -> None:
    detections, ranks = findings.detections, np.arange(7, 7 + len(findings.detections))
    moved = replace(detections, proposals=ranks, masks=findings.proposals.masks[ranks])
    record = page_record("", replace(findings, detections=moved), pipeline.manifest)
    for one, rank in zip(record["detections"], ranks, strict=True):
        proposal = record["proposals"][rank]
        assert (one["path"], one["area"], one["rle"]) == (
            proposal["path"],
            proposal["area"],
            proposal["rle"],
        )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_codes_are_exact(findings: Findings, record: dict[str, Any]) -> None:
    for mask, one in zip(findings.proposals.masks, record["proposals"], strict=True):
        code = {"size": [213, 320], "counts": one["rle"]}
        assert np.array_equal(coco_mask.decode(code), mask)


def test_the_level_is_that_of_the_window(findings: Findings, record: dict[str, Any]) -> None:
    _, windows = of_windows(findings.proposals.masks).windows()
    scales = [level["scale"] for level in record["levels"]]
    assert scales == [0.1768, 0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142, 2.0]
    levels = [one["level"] for one in record["proposals"]]
    assert len(set(levels)) >= 4
    for (_, _, side, _), level in zip(windows.tolist(), levels, strict=True):
        # Sides of levels are whole pixels: the smallest one has 57 x 38.
        assert side == pytest.approx(160 / scales[level], rel=0.02)
        assert record["levels"][level]["window"] == pytest.approx(side, abs=0.5)


def test_the_image_is_shrunk_to_1600_pixels(pipeline: Pipeline) -> None:
    image = np.zeros((450, 2000, 3), np.uint8)
    image[:, :1000] = 255, 100, 0
    record = page_record("a.png", pipeline.find(image), pipeline.manifest, image=image)
    head, _, content = record["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    assert decoded.shape == (360, 1600, 3)
    np.testing.assert_allclose(decoded[180, 400], (255, 100, 0), atol=6)
    small = base64.b64decode(record["thumbnail"].partition(",")[2])
    thumbnail = cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert thumbnail is not None
    assert thumbnail.shape == (72, 320, 3)
    assert (record["width"], record["height"]) == (2000, 450)


def test_a_record_without_image_is_json(pipeline: Pipeline, findings: Findings) -> None:
    record = page_record("cat.jpg", findings, pipeline.manifest)
    assert record["image"] is record["thumbnail"] is None
    assert record["score_threshold"] == 0.25
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_name_that_is_not_utf8_is_escaped(pipeline: Pipeline, findings: Findings) -> None:
    record = page_record("a\udce9.jpg", findings, pipeline.manifest)
    assert record["name"] == "a\\xe9.jpg"
