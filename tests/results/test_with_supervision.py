# SPDX-License-Identifier: Apache-2.0
"""Results in the package supervision itself; ``tests/labeling/test_real_tools.py`` installs it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from tests.results.test_detections import HEIGHT, WIDTH, detections_of, proposals_of

from foveate.results.detections import Detections
from foveate.results.window_masks import WindowMasks

sv = pytest.importorskip("supervision", "0.28", reason="needs the package supervision")


def large() -> Detections:
    """A hundred masks in an image of 12 megapixels, some of them outside of it or empty."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    angle, radius = np.arctan2(y - 80, x - 80), np.hypot(y - 80, x - 80)
    logits = [60 + 10 * np.sin(i % 9 * angle + i) - radius for i in range(99)]
    logits.append(np.full((160, 160), -1.0))
    side = rng.uniform(50, 1500, 100)
    windows = np.stack([rng.uniform(-200, 3900, 100), rng.uniform(-200, 2900, 100), side, side], 1)
    masks = WindowMasks(
        np.stack(logits).astype(np.float32),
        windows.astype(np.float32),
        np.arange(100),
        threshold=0.0,
        height=3000,
        width=4000,
    )
    return Detections(
        boxes=masks.boxes(),
        scores=np.linspace(0.9, 0.3, 100).astype(np.float32),
        labels=np.arange(100) % 3,
        class_names=("a", "b", "c"),
        masks=masks,
        proposals=np.arange(100),
    )


def test_every_field_is_converted() -> None:
    found = detections_of(4)
    converted = found.to_supervision()
    assert isinstance(converted.mask, sv.CompactMask)
    assert np.array_equal(converted.mask.to_dense(), np.asarray(found.masks))
    assert np.array_equal(converted.xyxy, found.boxes)
    assert np.array_equal(converted.confidence, found.scores)
    assert np.array_equal(converted.class_id, found.labels)
    assert converted.data["class_name"].tolist() == found.names
    dogs = converted[converted.class_id == 1]
    assert dogs.data["class_name"].tolist() == ["dog", "dog"]
    assert np.array_equal(dogs.mask.to_dense(), np.asarray(found.masks)[[1, 3]])


def test_proposals_have_no_classes() -> None:
    converted = proposals_of(2).to_supervision()
    assert converted.class_id is None
    assert np.array_equal(converted.mask.to_dense(), np.asarray(proposals_of(2).masks))


def test_no_result_is_an_empty_one() -> None:
    converted = detections_of(0).to_supervision()
    assert len(converted) == 0
    assert converted.mask.shape == (0, HEIGHT, WIDTH)
    assert len(converted[converted.confidence > 0.5]) == 0


def test_annotators_and_zones_take_the_results() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    converted = detections_of(3).to_supervision()
    drawn = sv.MaskAnnotator(opacity=1.0).annotate(image.copy(), converted)
    assert np.array_equal(drawn.any(2), np.asarray(detections_of(3).masks).any(0))
    assert sv.LabelAnnotator().annotate(image.copy(), converted).any()
    zone = sv.PolygonZone(np.array([[0, 0], [40, 0], [40, HEIGHT], [0, HEIGHT]]))
    assert zone.trigger(converted).tolist() == [True, True, True]
    assert len(converted.with_nms(threshold=0.1, class_agnostic=True)) < 3


def test_trackers_recognize_objects_in_the_next_frames() -> None:
    trackers = pytest.importorskip("trackers", reason="needs the package trackers")
    found = detections_of(1)
    tracker = trackers.ByteTrackTracker(minimum_consecutive_frames=1)
    first, *others = (tracker.update(found.to_supervision()) for _ in range(3))
    assert first.tracker_id.tolist() == [-1]  # a track needs a second frame
    for one in others:
        assert one.tracker_id.tolist() == [0]
        assert np.array_equal(one.mask.to_dense(), np.asarray(found.masks))


def test_a_hundred_masks_of_a_large_image_take_little_memory() -> None:
    found = large()
    found[:1].to_supervision()  # imports
    tracemalloc.start()
    converted = found.to_supervision()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # a single mask has 12e6 pixels
    assert np.array_equal(converted.mask.area, found.masks.areas())
    for index in (0, 40, 99):
        assert np.array_equal(converted.mask[index], found.masks[index])
