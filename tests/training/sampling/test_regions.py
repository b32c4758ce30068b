# SPDX-License-Identifier: Apache-2.0
"""MultiPathNet's regions: shares, thresholds, crowds, and targets that lead to the ground truth."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from foveate.datasets import CocoDataset
from foveate.errors import DataError
from foveate.evaluation.legacy import LegacyOptions
from foveate.training.sampling.boxes import BoxStatistics, ProposalTable, box_iou, inside_share
from foveate.training.sampling.regions import RegionSampler, measure_statistics, region_candidates
from foveate.training.sampling.samples import RegionSample, RegionSamplerOptions, sample_generator

HEIGHT, WIDTH = 100, 160
THRESHOLDS = RegionSamplerOptions().thresholds
STATISTICS = BoxStatistics(mean=(0.01, -0.02, 0.03, 0.04), std=(0.1, 0.2, 0.3, 0.4))
SMALL = RegionSamplerOptions(short_side=200, long_side=400)
UPRIGHT = RegionSamplerOptions(short_side=200, long_side=400, flip=0)


def truth(image: int, category: int, box: list[float], crowd: int = 0) -> dict[str, Any]:
    x, y, w, h = box
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": w * h,
        "iscrowd": crowd,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }


def write(directory: Path, truths: list[dict[str, Any]], images: int = 2) -> CocoDataset:
    (directory / "images").mkdir()
    for number in range(1, images + 1):
        image = np.full((HEIGHT, WIDTH, 3), 50 * number, np.uint8)
        cv2.imwrite(str(directory / "images" / f"{number}.png"), image)
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH}
            for n in range(1, images + 1)
        ],
        "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"id": i, **entry} for i, entry in enumerate(truths, 1)],
    }
    (directory / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return CocoDataset(directory)


def results(image: int, *boxes: list[float]) -> list[dict[str, Any]]:
    return [{"image_id": image, "bbox": box, "score": 1 - i / 100} for i, box in enumerate(boxes)]


def around(box: list[float], count: int, seed: int) -> list[list[float]]:
    """Boxes that overlap one more or less."""
    rng = np.random.default_rng(seed)
    x, y, w, h = box
    return [
        [x + w * dx, y + h * dy, w * np.exp(sw), h * np.exp(sh)]
        for dx, dy, sw, sh in rng.normal(0, 0.2, (count, 4)).tolist()
    ]


CAT, DOG = [20.0, 10, 60, 50], [90.0, 40, 50, 55]


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    return write(tmp_path, [truth(1, 4, CAT), truth(1, 9, DOG), truth(2, 9, CAT)])


@pytest.fixture
def proposals() -> ProposalTable:
    return ProposalTable.from_results(
        results(1, *around(CAT, 40, 0), *around(DOG, 40, 1)) + results(2, *around(CAT, 60, 2))
    )


def decoded(sample: RegionSample, statistics: BoxStatistics) -> NDArray[np.float64]:
    """Where the targets lead, by equations 1 to 4 of "Rich feature hierarchies", appendix C."""
    deltas = sample.targets * np.array(statistics.std) + np.array(statistics.mean)
    size = sample.boxes[:, 2:] - sample.boxes[:, :2]
    center = sample.boxes[:, :2] + size / 2 + deltas[:, :2] * size
    new = size * np.exp(deltas[:, 2:])
    return np.concatenate([center - new / 2, center + new / 2], axis=1)


def canvas_truths(sample: RegionSample, mirrored: bool) -> dict[tuple[int, int], NDArray[Any]]:
    """Ground truth in the sample's image, by the image's gray and the class."""
    factor = sample.image.shape[1] / WIDTH
    gray = int(sample.image[0, 0, 0])
    found = {}
    for key, (x, y, w, h) in {(50, 1): CAT, (50, 2): DOG, (100, 2): CAT}.items():
        left = WIDTH - x - w if mirrored else x
        if key[0] == gray:
            found[key] = np.array([left, y, left + w, y + h]) * factor
    return found


# --- samples --------------------------------------------------------------------------------


def test_a_quarter_of_64_regions_is_foreground(
    dataset: CocoDataset, proposals: ProposalTable
) -> None:
    sampler = RegionSampler(dataset, proposals, STATISTICS, SMALL)
    for index in range(8):
        sample = sampler.draw(sample_generator(0, 0, index))
        assert sample.boxes.shape == sample.targets.shape == (64, 4)
        assert sample.labels.shape == (6, 64)
        assert (sample.labels[0] > 0).sum() == 16
        assert sample.boxes.dtype == np.float32
        assert sample.labels.dtype == np.int64


@pytest.mark.parametrize("head", [None, 0, 3, 5])
def test_labels_follow_overlaps_at_every_threshold(
    dataset: CocoDataset, proposals: ProposalTable, head: int | None
) -> None:
    sampler = RegionSampler(dataset, proposals, STATISTICS, UPRIGHT)
    for index in range(6):
        sample = sampler.draw(sample_generator(0, 0, index), head)
        truths = canvas_truths(sample, mirrored=False)
        iou = box_iou(sample.boxes, np.array(list(truths.values()), np.float32))
        classes = np.array([label for _, label in truths])[iou.argmax(1)]
        for row, threshold in zip(sample.labels, THRESHOLDS, strict=True):
            clear = np.abs(iou.max(1) - threshold) > 1e-4
            expected = np.where(iou.max(1) >= threshold, classes, 0)
            np.testing.assert_array_equal(row[clear], expected[clear])
        assert (sample.labels[head or 0] > 0).sum() == 16
        assert iou.max(1).min() >= 0.1 - 1e-4


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_targets_lead_to_the_ground_truth(
    dataset: CocoDataset, proposals: ProposalTable, flip: float
) -> None:
    options = RegionSamplerOptions(short_side=200, long_side=400, flip=flip)
    sampler = RegionSampler(dataset, proposals, STATISTICS, options)
    for index in range(6):
        sample = sampler.draw(sample_generator(0, 0, index))
        truths = canvas_truths(sample, mirrored=bool(flip))
        labels = sample.labels[0]
        for box, label in zip(decoded(sample, STATISTICS), labels.tolist(), strict=True):
            if label:
                np.testing.assert_allclose(
                    box, truths[int(sample.image[0, 0, 0]), label], atol=0.01
                )
        assert (sample.targets[labels == 0] == 0).all()


@pytest.mark.parametrize(("long_side", "expected"), [(999, (50, 80)), (64, (40, 64))])
def test_the_longer_side_is_bounded(
    dataset: CocoDataset, proposals: ProposalTable, long_side: int, expected: tuple[int, int]
) -> None:
    options = RegionSamplerOptions(short_side=50, long_side=long_side)
    sampler = RegionSampler(dataset, proposals, STATISTICS, options)
    assert sampler.draw(np.random.default_rng(0)).image.shape[:2] == expected


def test_the_same_generator_gives_the_same_sample_in_any_process(
    dataset: CocoDataset, proposals: ProposalTable
) -> None:
    sampler = RegionSampler(dataset, proposals, STATISTICS, SMALL)
    copy = pickle.loads(pickle.dumps(sampler))  # noqa: S301 - our own bytes
    first, second = (s.draw(sample_generator(3, 1, 4)) for s in (sampler, copy))
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(second, name))


# --- candidates -----------------------------------------------------------------------------


def candidates(dataset: CocoDataset, table: ProposalTable, **legacy: bool) -> Any:
    return region_candidates(dataset, table, 0, SMALL, LegacyOptions(**legacy))


def test_ground_truth_is_a_candidate(dataset: CocoDataset) -> None:
    found = candidates(dataset, ProposalTable.from_results([]))
    assert found.boxes.tolist() == [[20, 10, 80, 60], [90, 40, 140, 95]]
    assert found.overlaps.tolist() == [1, 1]
    assert found.labels.tolist() == [1, 2]


def test_only_the_best_proposals_are_candidates() -> None:
    table = ProposalTable.from_results(
        [{"image_id": 1, "bbox": [i, 0, 9, 9], "score": i} for i in range(5)]
    )
    assert table.of_image(1, 2)[:, 0].tolist() == [4, 3]
    assert len(table.of_image(2, 2)) == 0


def test_proposals_are_clipped_to_the_image(dataset: CocoDataset) -> None:
    outside, across = [200.0, 0, 10, 10], [-10.0, 90, 30, 30]
    found = candidates(dataset, ProposalTable.from_results(results(1, outside, across)))
    assert found.boxes[2:].tolist() == [[0, 90, 20, 100]]


def test_a_proposal_in_a_crowd_is_not_drawn_but_ground_truth_is(tmp_path: Path) -> None:
    """Of the proposals 80 %, exactly 70 % and 60 % lie in the crowd; more than 70 % is too much."""
    crowd = truth(1, 4, [0, 0, 80, 100], crowd=1)
    data = write(tmp_path, [truth(1, 4, [10, 10, 40, 40]), crowd])
    boxes = [[0.0, 0, 100, 50], [10.0, 0, 100, 50], [20.0, 0, 100, 50]]
    found = candidates(data, ProposalTable.from_results(results(1, *boxes)))
    assert (found.overlaps >= 0).tolist() == [True, False, True, True]
    assert found.labels.tolist() == [1] * 4


def test_a_proposal_in_one_of_several_crowds_is_not_drawn(tmp_path: Path) -> None:
    crowds = [truth(1, 4, [x, 0, 50, 100], crowd=1) for x in (0, 110)]
    data = write(tmp_path, [truth(1, 4, [60, 10, 40, 40]), *crowds])
    boxes = [[115.0, 0, 40, 50], [5.0, 5, 40, 50], [55.0, 0, 50, 50]]
    found = candidates(data, ProposalTable.from_results(results(1, *boxes)))
    assert (found.overlaps >= 0).tolist() == [True, False, False, True]


def test_an_object_with_an_empty_box_is_no_candidate(tmp_path: Path) -> None:
    flat = {**truth(1, 4, CAT), "bbox": [20, 10, 60, 0]}
    found = candidates(write(tmp_path, [flat]), ProposalTable.from_results(results(1, CAT)))
    assert found.overlaps.tolist() == [0]


def test_released_boxes_of_objects_are_a_pixel_larger(dataset: CocoDataset) -> None:
    """IoU with edges as pixels: 61 x 51 of 62 x 52."""
    found = candidates(dataset, ProposalTable.from_results(results(1, CAT)), inclusive_boxes=True)
    assert found.boxes[0].tolist() == [20, 10, 81, 61]
    assert found.overlaps[2] == pytest.approx(61 * 51 / (62 * 52))


def test_images_without_both_kinds_are_drawn_again(dataset: CocoDataset) -> None:
    """Image 1 has no background: only ground truth."""
    table = ProposalTable.from_results(results(2, *around(CAT, 40, 2)))
    sampler = RegionSampler(dataset, table, STATISTICS, SMALL)
    grays = {int(sampler.draw(sample_generator(0, 0, i)).image[0, 0, 0]) for i in range(6)}
    assert grays == {100}


def test_proposals_of_other_images_are_an_error(dataset: CocoDataset) -> None:
    table = ProposalTable.from_results(results(77, CAT))
    with pytest.raises(DataError, match=r"none of 1000 images.*IoU >= 0\.5.*by their ids"):
        RegionSampler(dataset, table, STATISTICS, SMALL).draw(np.random.default_rng(0))


# --- quirks ---------------------------------------------------------------------------------


def test_released_batches_are_short_where_candidates_are_few(dataset: CocoDataset) -> None:
    """Two objects, and three proposals that overlap them a little."""
    boxes = [[60.0, 10, 60, 50], [62.0, 12, 60, 50], [64.0, 14, 60, 50]]
    table = ProposalTable.from_results(results(1, *boxes))
    sampler = RegionSampler(dataset, table, STATISTICS, SMALL, LegacyOptions(short_batches=True))
    sample = sampler.draw(np.random.default_rng(0))
    assert sample.labels.shape == (6, 5)
    assert (sample.labels[0] > 0).sum() == 2


def test_released_heads_learn_from_any_threshold(
    dataset: CocoDataset, proposals: ProposalTable
) -> None:
    legacy = LegacyOptions(mismatched_heads=True)
    sampler = RegionSampler(dataset, proposals, STATISTICS, UPRIGHT, legacy)
    lowest = []
    for index in range(30):
        sample = sampler.draw(sample_generator(0, 0, index), 0)
        assert (sample.labels == sample.labels[0]).all()
        truths = np.array(list(canvas_truths(sample, mirrored=False).values()), np.float32)
        lowest.append(box_iou(sample.boxes, truths).max(1)[sample.labels[0] > 0].min())
    assert min(lowest) < 0.55
    assert max(lowest) > 0.7


# --- statistics, boxes, files ---------------------------------------------------------------


def test_statistics_are_those_of_all_foregrounds(
    dataset: CocoDataset, proposals: ProposalTable
) -> None:
    statistics = measure_statistics(dataset, proposals)
    deltas = []
    for index in range(2):
        found = region_candidates(dataset, proposals, index, SMALL, LegacyOptions())
        for box, goal, overlap in zip(found.boxes, found.truths, found.overlaps, strict=True):
            if overlap >= 0.5:
                w, h = box[2:] - box[:2]
                goal_w, goal_h = goal[2:] - goal[:2]
                x, y = (goal[:2] + goal[2:] - box[:2] - box[2:]) / 2
                deltas.append([x / w, y / h, np.log(goal_w / w), np.log(goal_h / h)])
    np.testing.assert_allclose(statistics.mean, np.mean(deltas, axis=0), atol=1e-5)
    np.testing.assert_allclose(statistics.std, np.std(deltas, axis=0, ddof=1), atol=1e-5)


def test_statistics_need_foregrounds(tmp_path: Path) -> None:
    data = write(tmp_path, [truth(1, 4, CAT)])
    with pytest.raises(DataError, match="1 regions of the first 1000 images show an object"):
        measure_statistics(data, ProposalTable.from_results([]))


def test_overlaps_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    others = np.array([[5, 0, 15, 10]], np.float32)
    np.testing.assert_allclose(box_iou(boxes, others)[:, 0], [50 / 150, 0])
    np.testing.assert_allclose(box_iou(boxes, others, edge=1)[:, 0], [66 / 176, 0])
    np.testing.assert_allclose(inside_share(boxes, others)[:, 0], [0.5, 0])


def test_proposals_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "proposals.json"
    file.write_text(json.dumps(results(1, CAT) + results(2, CAT)), encoding="utf-8")
    table = ProposalTable.read(file)
    assert len(table) == 2
    assert table.of_image(2, 9).tolist() == [[20, 10, 80, 60]]


def test_a_proposal_may_be_a_mask_only() -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[10:30, 5:15] = 1
    entry = {"image_id": 1, "score": 1.0, "segmentation": coco_mask.encode(mask)}
    table = ProposalTable.from_results([entry])
    assert table.of_image(1, 9).tolist() == [[5, 10, 15, 30]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a list of COCO results, found dict"),
        ("[", "the JSON cannot be read"),
        (
            '[{"image_id": 1, "segmentation": {"size": [4, 6], "counts": "H"}, "score": 1}]',
            "the run-length code is damaged",
        ),
        (
            '[{"image_id": 1, "segmentation": {"size": [4, 6], "counts": "h"}, "score": 1}]',
            "damaged",
        ),
        ('[{"image_id": 1, "segmentation": {"size": 4, "counts": "h"}, "score": 1}]', "its size"),
        ('[{"image_id": 1, "segmentation": [[1, 2]], "score": 1}]', "it is list and not an object"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', "result number 1 is not a proposal.*score"),
        ('[{"image_id": 1, "bbox": [1, 2, 3], "score": 1}]', "result number 1 is not a proposal"),
    ],
)
def test_bad_proposals_are_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "some.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        ProposalTable.read(tmp_path / "some.json")
