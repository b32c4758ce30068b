# SPDX-License-Identifier: Apache-2.0
"""Which results of tiles show the same object. Tiles of 120 pixels lie in an image of 300 x 200."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.samples.paths import PACKAGE

from foveate.bundle import Bundle, Manifest, SelectSpec
from foveate.results.detections import Detections, Findings, Proposals
from foveate.results.window_masks import WindowMasks, of_windows
from foveate.runtime.merging import merge

HEIGHT, WIDTH = 200, 300
WHOLE = (0, 0, WIDTH, HEIGHT)
LEFT, RIGHT = (0, 0, 120, 120), (80, 0, 200, 120)
Found = tuple[float, tuple[int, int, int, int]]  # score, and xyxy in the image


def masks_of(found: list[Found], region: tuple[int, int, int, int]) -> WindowMasks:
    windows = np.array([(x0, y0, x1 - x0, y1 - y0) for _, (x0, y0, x1, y1) in found], np.float32)
    return WindowMasks(
        np.ones((len(found), 8, 8), np.float32),
        windows.reshape(-1, 4),
        np.arange(len(found)),
        threshold=0.0,
        height=HEIGHT,
        width=WIDTH,
        regions=np.tile(np.array(region), (len(found), 1)),
    )


def proposals_in(region: tuple[int, int, int, int], *found: Found) -> Proposals:
    return Proposals(
        boxes=np.array([box for _, box in found], np.float32).reshape(-1, 4),
        scores=np.array([score for score, _ in found], np.float32),
        masks=masks_of(list(found), region),
    )


def detections_in(
    region: tuple[int, int, int, int], labels: tuple[int, ...], *found: Found
) -> Detections:
    proposals = proposals_in(region, *found)
    return Detections(
        boxes=proposals.boxes,
        scores=proposals.scores,
        labels=np.array(labels, np.int64),
        class_names=("cat", "dog"),
        masks=proposals.masks,
        proposals=np.full(len(found), -1),
    )


def manifest_of(iou: float = 0.5, most: int = 99) -> Manifest:
    manifest = Bundle.open(PACKAGE / "assets" / "bundles" / "mini").manifest
    assert manifest.classify is not None
    return replace(
        manifest,
        select=SelectSpec(top_k=most, window_nms_iou=iou),
        classify=replace(manifest.classify, max_detections=most, class_nms_iou=iou),
    )


def scores(*parts: Proposals, iou: float = 0.5) -> list[float]:
    merged = merge(parts, manifest_of(iou))
    assert isinstance(merged, Proposals)
    return [round(float(one), 3) for one in merged.scores]


@pytest.mark.parametrize(("windows", "proposals"), [(0.8, 0.5), (0.5, 0.8)])
def test_proposals_of_tiles_are_suppressed_by_the_lower_of_both_limits(
    windows: float, proposals: float
) -> None:
    one = proposals_in(LEFT, (0.9, (10, 10, 50, 50)))
    other = proposals_in(LEFT, (0.8, (10, 10, 50, 40)))  # an overlap of 0.75
    select = SelectSpec(top_k=99, window_nms_iou=windows, proposal_nms_iou=proposals)
    merged = merge([one, other], replace(manifest_of(), select=select))
    assert isinstance(merged, Proposals)
    assert len(merged) == 1


def test_a_fragment_loses_against_the_whole_object_of_the_neighboring_tile() -> None:
    cut = proposals_in(LEFT, (0.9, (85, 20, 120, 60)))
    whole = proposals_in(RIGHT, (0.3, (86, 21, 170, 61)))
    assert scores(cut, whole) == [0.3]


def test_a_fragment_loses_against_the_object_of_the_shrunk_image() -> None:
    fragments = [proposals_in(LEFT, (0.9, (10, 20, 120, 60)))]
    fragments.append(proposals_in(RIGHT, (0.8, (80, 20, 200, 60))))
    assert scores(proposals_in(WHOLE, (0.2, (8, 19, 260, 62))), *fragments) == [0.2]


def test_a_fragment_inside_of_an_object_is_a_part_of_it() -> None:
    whole = proposals_in(WHOLE, (0.3, (0, 0, 300, 180)))
    assert scores(whole, proposals_in(LEFT, (0.4, (85, 20, 120, 60)))) == [0.3]


def test_a_fragment_that_contains_something_small_stays() -> None:
    small = proposals_in(RIGHT, (0.9, (100, 30, 118, 50)))
    assert scores(small, proposals_in(LEFT, (0.4, (40, 20, 120, 90)))) == [0.9, 0.4]


def test_of_two_fragments_the_better_one_stays_though_it_is_smaller() -> None:
    one = proposals_in(LEFT, (0.9, (78, 20, 120, 60)))
    other = proposals_in(RIGHT, (0.6, (80, 20, 200, 60)))
    assert scores(one, other) == [0.9]


def test_of_two_fragments_of_an_object_the_better_one_stays() -> None:
    one = proposals_in(LEFT, (0.4, (10, 20, 120, 60)))
    other = proposals_in(RIGHT, (0.6, (80, 20, 200, 60)))
    assert scores(one, other) == [0.6]


def test_fragments_of_different_objects_stay() -> None:
    one = proposals_in(LEFT, (0.4, (90, 20, 120, 50)))
    other = proposals_in(RIGHT, (0.6, (80, 60, 150, 90)))
    assert scores(one, other) == [0.6, 0.4]


@pytest.mark.parametrize(
    ("region", "box"),
    [(LEFT, (0, 0, 60, 60)), ((180, 80, WIDTH, HEIGHT), (240, 130, WIDTH, HEIGHT))],
)
def test_an_object_at_the_border_of_the_image_is_no_fragment(
    region: tuple[int, int, int, int], box: tuple[int, int, int, int]
) -> None:
    at_border, other = proposals_in(region, (0.4, box)), proposals_in(WHOLE, (0.3, box))
    assert scores(at_border, other) == [0.4]


@pytest.mark.parametrize(
    ("region", "box", "is_fragment"),
    [
        (LEFT, (85, 20, 119, 60), True),
        (LEFT, (85, 20, 117, 60), False),  # 3 pixels from the edge of 120 pixels
        ((0, 0, 240, 60), (200, 20, 237, 50), True),  # 3 pixels from an edge across 240 pixels
        ((130, 0, 250, 120), (200, 20, 250, 60), True),
    ],
)
def test_a_fragment_ends_near_an_edge_of_its_tile(
    region: tuple[int, int, int, int], box: tuple[int, int, int, int], is_fragment: bool
) -> None:
    x0, y0, x1, y1 = box
    # The same corner, and more than twice as large, so that no limit of overlap drops the other.
    whole = proposals_in(WHOLE, (0.3, (x0, y0, min(2 * x1 - x0, WIDTH), min(2 * y1 - y0, HEIGHT))))
    assert scores(proposals_in(region, (0.9, box)), whole) == ([0.3] if is_fragment else [0.9, 0.3])


@pytest.mark.parametrize(("start", "kept"), [(109, [0.3]), (111, [0.9, 0.3])])
def test_a_fragment_of_which_more_than_half_lies_in_an_object_goes(
    start: int, kept: list[float]
) -> None:
    cut = proposals_in(LEFT, (0.9, (100, 20, 120, 60)))
    assert scores(cut, proposals_in(WHOLE, (0.3, (start, 0, 200, 120)))) == kept


@pytest.mark.parametrize(("start", "kept"), [(98, [0.3]), (102, [0.9, 0.3])])
def test_a_fragment_that_shows_more_than_half_of_the_same_part_goes(
    start: int, kept: list[float]
) -> None:
    cut = proposals_in(LEFT, (0.9, (20, 20, 120, 60)))  # both tiles show 40 columns of it
    assert scores(cut, proposals_in(RIGHT, (0.3, (start, 20, 180, 60)))) == kept


@pytest.mark.parametrize(("iou", "kept"), [(0.5, [0.8]), (0.7, [0.8, 0.7])])
def test_whole_objects_are_suppressed_by_the_limit(iou: float, kept: list[float]) -> None:
    one = proposals_in(LEFT, (0.8, (20, 20, 60, 60)))
    other = proposals_in(WHOLE, (0.7, (20, 20, 60, 45)))  # the overlap is 25 of 40 rows
    assert scores(one, other, iou=iou) == kept


def test_whole_objects_of_two_classes_stay_and_a_fragment_of_any_class_goes() -> None:
    whole = detections_in(WHOLE, (0, 1), (0.5, (60, 20, 150, 60)), (0.4, (60, 20, 150, 60)))
    cut = detections_in(LEFT, (1,), (0.9, (61, 21, 120, 61)))
    alone = detections_in(LEFT, (1,), (0.3, (20, 70, 120, 110)))
    merged = merge([whole, cut, alone], manifest_of())
    assert isinstance(merged, Detections)
    assert merged.scores.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert merged.labels.tolist() == [0, 1, 1]


def test_at_most_ten_times_as_many_results_remain_and_only_their_logits() -> None:
    many = [(0.05 * i, (10 * i, 10, 10 * i + 9, 20)) for i in range(11)]
    one, other = proposals_in(WHOLE, *many), proposals_in(LEFT, (0.9, (30, 40, 60, 60)))
    merged = merge([one, other], manifest_of(most=1))
    assert isinstance(merged, Proposals)
    assert merged.scores.tolist() == pytest.approx([0.9, *(0.05 * i for i in range(10, 1, -1))])
    logits, windows, regions, rows = of_windows(merged.masks).used()
    assert len(logits) == len(windows) == len(regions) == 10
    assert rows.tolist() == [9, *range(8, -1, -1)]  # the logits keep their order


def test_the_proposals_of_detections_remain() -> None:
    found = [(0.9, (20, 20, 60, 60)), (0.5, (21, 20, 60, 60)), (0.3, (70, 20, 90, 60))]
    proposals = proposals_in(WHOLE, *found)
    detections = detections_in(WHOLE, (0, 0), (0.8, found[1][1]), (0.6, found[2][1]))
    detections = replace(detections, proposals=np.array([1, 2]), masks=proposals.masks[[1, 2]])
    other = proposals_in(LEFT, (0.7, (20, 90, 60, 110)))
    parts = [
        Findings(proposals=proposals, detections=detections),
        Findings(
            proposals=other,
            detections=replace(
                detections_in(LEFT, (1,), (0.7, (20, 90, 60, 110))), proposals=np.array([0])
            ),
        ),
    ]
    merged = merge(parts, manifest_of())
    assert isinstance(merged, Findings)
    assert merged.proposals.scores.tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3])
    assert merged.detections.scores.tolist() == pytest.approx([0.8, 0.7, 0.6])
    assert merged.detections.proposals.tolist() == [2, 1, 3]
    assert merged.detections.masks.rle() == merged.proposals.masks[[2, 1, 3]].rle()


def test_nothing_merges_into_nothing() -> None:
    merged = merge([proposals_in(WHOLE), proposals_in(LEFT)], manifest_of())
    assert isinstance(merged, Proposals)
    assert len(merged) == 0
    assert merged.masks.shape == (0, HEIGHT, WIDTH)
