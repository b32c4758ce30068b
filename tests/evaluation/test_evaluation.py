# SPDX-License-Identifier: Apache-2.0
"""Figures equal pycocotools' own, and intervals follow the families."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.samples.evaluation import annotation, measure, open_truth, plain_coco, rectangle, scene

from foveate.errors import DataError, OptionError
from foveate.evaluation import Bootstrap, GroundTruth
from foveate.evaluation.annotations import Image
from foveate.evaluation.bootstrap import _recalls_up_to, area_rank_weights, average_recall, estimate
from foveate.evaluation.measure import Accumulator

FEW = Bootstrap(replicates=50)

REGIONS = [("mask", "segm"), ("box", "bbox")]
DETECTIONS = ["AP", "AP50", "AP75", "AP, small", "AP, medium", "AP, large"]
SIZES = ["small", "medium", "large"]


def assert_equal_to_pycocotools(
    content: dict[str, Any], results: list[dict[str, Any]], *, region: str, kind: str, **how: Any
) -> None:
    stats = plain_coco(content, results, kind=kind, by_class=True, **how)
    figures = measure(open_truth(content), results, task="detections", resampling=FEW)
    ours = [figures[f"{region} {name}"].value for name in [*DETECTIONS, "AR@100"]]
    theirs = [math.nan if value < 0 else value for value in [*stats[:6], stats[8]]]
    assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)

    stats = plain_coco(content, results, kind=kind, by_class=False, most=1000, **how)
    figures = measure(open_truth(content), results, task="proposals", most=1000, resampling=FEW)
    names = ["AR@10", "AR@100", "AR@1000", *(f"AR@1000, {size}" for size in SIZES)]
    ours = [figures[f"{region} {name}"].value for name in names]
    theirs = [math.nan if value < 0 else value for value in stats[6:]]
    assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("region", "kind"), REGIONS)
def test_a_fixed_scene_equals_plain_pycocotools(region: str, kind: str) -> None:
    assert_equal_to_pycocotools(*scene(), region=region, kind=kind)


@pytest.mark.parametrize(("region", "kind"), REGIONS)
def test_a_fixed_scene_equals_faster_coco_eval(region: str, kind: str) -> None:
    faster = pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval")
    library = (faster.COCO, faster.COCOeval_faster)
    assert_equal_to_pycocotools(*scene(), region=region, kind=kind, library=library)


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), region=st.sampled_from(REGIONS))
def test_any_scene_equals_plain_pycocotools(seed: int, region: tuple[str, str]) -> None:
    content, results = scene(images=4, seed=seed)
    assume(results)  # pycocotools cannot read an empty list
    assert_equal_to_pycocotools(content, results, region=region[0], kind=region[1])


@pytest.mark.parametrize(("region", "kind"), REGIONS)
def test_equals_are_taken_in_the_order_of_pycocotools(region: str, kind: str) -> None:
    """One score and few places: everything is a tie, of scores and of overlaps."""
    content, results = scene(images=1)
    places = [rectangle(10 * x, 10, 40, 40) for x in range(4)]
    random = np.random.default_rng(0)
    picks = random.integers(0, 4, 14)
    content["annotations"] = [
        {**annotation(i, 1, 3 + 2 * (i % 2), places[pick]), "iscrowd": int(i == 3)}
        for i, pick in enumerate(picks[:6], 1)
    ]
    results = [
        {**annotation(0, 1, int(random.choice([5, 3])), places[pick]), "score": 0.5}
        for pick in picks[6:]
    ]
    assert_equal_to_pycocotools(content, results, region=region, kind=kind)


@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.parametrize(("region", "kind"), REGIONS)
def test_an_area_between_two_ranges_belongs_to_both(region: str, kind: str, side: int) -> None:
    content, _ = scene(images=1)
    content["annotations"] = [annotation(1, 1, 3, rectangle(10, 10, side, side))]
    results = [{**annotation(0, 1, 3, rectangle(12, 10, side, side)), "score": 0.5}]
    assert_equal_to_pycocotools(content, results, region=region, kind=kind)
    figures = measure(open_truth(content), results, task="detections", resampling=FEW)
    both = SIZES[:2] if side == 32 else SIZES[1:]
    assert all(figures[f"{region} AP, {size}"].value > 0.5 for size in both)


@pytest.mark.parametrize("most", [100, 1000])
def test_more_proposals_than_count_equal_plain_pycocotools(most: int) -> None:
    content, _ = scene(images=2)
    random = np.random.default_rng(5)
    results = [
        {
            "image_id": int(random.integers(1, 3)),
            "category_id": 3,
            "score": float(random.integers(0, 400)) / 400,
            "bbox": [*random.uniform(0, 90, 2).tolist(), *random.uniform(4, 60, 2).tolist()],
        }
        for _ in range(2400)
    ]
    stats = plain_coco(content, results, kind="bbox", by_class=False, most=most)
    figures = measure(
        open_truth(content), results, task="proposals", most=most, regions=("box",), resampling=FEW
    )
    assert figures[f"box AR@{most}"].value == pytest.approx(stats[8], abs=1e-9)
    assert figures["box AR@10"].value == pytest.approx(stats[7 if most == 100 else 6], abs=1e-9)


def test_the_best_hundred_detections_of_an_image_and_class_count() -> None:
    content, _ = scene(images=1)
    content["annotations"] = [annotation(1, 1, 3, rectangle(40, 40, 30, 30))]
    right = {**annotation(0, 1, 3, rectangle(40, 40, 30, 30)), "score": 0.5}
    wrong = {**annotation(0, 1, 3, rectangle(90, 90, 9, 9)), "score": 0.9}
    for number in (99, 100):  # of results before the right one
        assert_equal_to_pycocotools(content, [wrong] * number + [right], region="mask", kind="segm")


def test_an_image_may_have_a_thousand_masks() -> None:
    content, _ = scene(images=1)
    content["annotations"] = [annotation(1, 1, 3, rectangle(40, 40, 30, 30))]
    masks = [rectangle(20 + x, 30 + y, 30, 30) for x in range(40) for y in range(25)]
    results = [
        {"image_id": 1, "score": 1 - i / 1000, "segmentation": mask} for i, mask in enumerate(masks)
    ]
    figures = measure(open_truth(content), results, task="proposals", most=1000, resampling=FEW)
    assert figures["mask AR@1000"].value == 1
    # The one in its place is number 20 * 25 + 10.
    assert figures["mask AR@100"].value == 0


def test_the_area_under_recall_is_that_of_the_curve_on_a_logarithmic_axis() -> None:
    content, results = scene(images=20)
    truth, most = open_truth(content), 12
    recall = [average_recall_at(truth, results, n) for n in range(1, most + 1)]
    axis = np.log(np.arange(1, most + 1))
    expected = np.trapezoid(recall, axis) / axis[-1]
    figures = measure(truth, results, task="proposals", most=most, regions=("box",), resampling=FEW)
    assert figures["box AUC"].value == pytest.approx(expected, abs=1e-12)
    assert recall[0] < expected < recall[-1]


def average_recall_at(truth: GroundTruth, results: list[dict[str, Any]], most: int) -> float:
    accumulator = Accumulator(truth=truth, region="box", by_class=False, most=most)
    for image in truth.images:
        objects = [o for o in truth.objects if o["image_id"] == image.identifier]
        accumulator.add(image, objects, [r for r in results if r["image_id"] == image.identifier])
    whole = np.ones((1, truth.families))
    return float(average_recall(whole, accumulator.groups("all"), np.ones(most))[0])


def test_an_object_that_the_first_proposal_finds_gives_an_area_of_one() -> None:
    assert area_rank_weights(1000)[0] == 1
    assert area_rank_weights(1).tolist() == [1]
    # Found by the second of two proposals: the triangle under the line from AR@1 to AR@2.
    assert area_rank_weights(2).tolist() == [1, 0.5]


def test_recall_is_given_for_as_many_proposals_as_count() -> None:
    content, results = scene(images=1)
    names = {
        most: [
            name
            for name in measure(
                open_truth(content), results, task="proposals", most=most, resampling=FEW
            )
            if name.startswith("mask AR") and "," not in name
        ]
        for most in (5, 10, 999, 1000)
    }
    assert names == {
        5: ["mask AR@5"],
        10: ["mask AR@10"],
        999: ["mask AR@10", "mask AR@100"],
        1000: ["mask AR@10", "mask AR@100", "mask AR@1000"],
    }


def test_no_proposal_that_counts_is_an_error() -> None:
    with pytest.raises(OptionError, match="most must be at least 1, found 0"):
        measure(open_truth(scene()[0]), [], task="proposals", most=0)


def test_a_size_without_objects_has_no_figure() -> None:
    content, results = scene()
    figures = measure(open_truth(content), results, task="detections", resampling=FEW)
    assert np.isnan(figures["mask AP, large"].value)


@pytest.mark.parametrize("task", ["proposals", "detections"])
def test_no_result_is_a_figure_of_zero(task: Any) -> None:
    content, _ = scene()
    figures = measure(open_truth(content), [], task=task, resampling=FEW)
    name = "mask AR@100" if task == "proposals" else "mask AP"
    assert (figures[name].value, figures[name].low, figures[name].high) == (0, 0, 0)


def test_no_object_is_no_figure() -> None:
    content, results = scene()
    content["annotations"] = []
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert all(np.isnan(figure.value) for figure in figures.values())


def test_a_result_on_a_crowd_is_neither_right_nor_wrong() -> None:
    right, crowd = rectangle(10, 10, 30, 30), rectangle(70, 20, 50, 50)
    entries = [annotation(1, 1, 3, right), {**annotation(2, 1, 3, crowd), "iscrowd": 1}]
    content, _ = scene(images=1)
    content["annotations"] = entries
    base = {"image_id": 1, "category_id": 3}
    results = [
        {**base, "score": 0.9, "segmentation": rectangle(80, 30, 20, 20)},
        {**base, "score": 0.8, "segmentation": right},
    ]
    figures = measure(open_truth(content), results, task="detections", resampling=FEW)
    assert figures["mask AP"].value == pytest.approx(1.0)


def test_best_overlap_is_the_mean_over_objects() -> None:
    content, _ = scene(images=1)
    content["annotations"] = [
        annotation(1, 1, 3, rectangle(0, 0, 20, 20)),
        annotation(2, 1, 9, rectangle(100, 60, 10, 10)),
    ]
    results = [
        {"image_id": 1, "score": 0.1, "segmentation": rectangle(0, 0, 20, 10)},
        {"image_id": 1, "score": 0.9, "segmentation": rectangle(0, 0, 5, 20)},
    ]
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert figures["mean best overlap"].value == pytest.approx(0.25)
    large = figures["mean best overlap, at least 1 % of the image"]
    assert large.value == pytest.approx(0.5)


@pytest.mark.parametrize("most", [100, 1000])
def test_only_the_best_hundred_of_an_image_count(most: int) -> None:
    content, _ = scene(images=1)
    content["annotations"] = [annotation(1, 1, 3, rectangle(0, 0, 20, 20))]
    wrong = rectangle(100, 60, 10, 10)
    results = [{"image_id": 1, "score": 0.5, "segmentation": wrong} for _ in range(100)]
    results.append({"image_id": 1, "score": 0.4, "segmentation": rectangle(0, 0, 20, 20)})
    truth = open_truth(content)
    figures = measure(truth, results, task="proposals", most=most, resampling=FEW)
    assert figures["mask AR@100"].value == 0
    assert figures["mean best overlap"].value == 0


def test_an_object_of_a_hundredth_of_the_image_is_a_large_one() -> None:
    content, _ = scene(images=1)  # of 120 x 160 pixels
    places = [(10, 20, 19, 10), (60, 20, 12, 16), (100, 20, 16, 12)]  # 190, 192 and 192 of them
    content["annotations"] = [
        annotation(number, 1, 3, rectangle(*place)) for number, place in enumerate(places, 1)
    ]
    results = [{**annotation(0, 1, 3, rectangle(*places[2])), "score": 0.5}]
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert figures["mean best overlap"].value == pytest.approx(1 / 3)
    assert figures["mean best overlap, at least 1 % of the image"].value == pytest.approx(1 / 2)


def test_the_same_seed_gives_the_same_intervals() -> None:
    content, results = scene()
    first, second = (
        measure(open_truth(content), results, task="detections", resampling=FEW) for _ in range(2)
    )
    assert repr(first) == repr(second)


def test_the_interval_holds_the_value_and_has_a_width() -> None:
    content, results = scene(images=30)
    figure = measure(open_truth(content), results, task="detections")["mask AP"]
    assert figure.low < figure.value < figure.high


def test_a_replicate_equals_an_evaluation_of_the_resampled_objects() -> None:
    """Weights of 2 are the same objects and results twice; weights of 0 take both away."""
    content, _ = scene(images=2)
    one, two = rectangle(5, 5, 30, 30), rectangle(60, 60, 30, 30)
    content["annotations"] = [annotation(1, 1, 3, one), annotation(2, 2, 3, two)]
    results = [
        {"image_id": 1, "category_id": 3, "score": 0.9, "segmentation": one},
        {"image_id": 2, "category_id": 3, "score": 0.8, "segmentation": rectangle(0, 0, 9, 9)},
    ]
    figure = measure(open_truth(content), results, task="detections")["mask AP"]
    # Family 1 is drawn 0, 1 or 2 times out of 2: AP is 0, 51/101 (recalls up to .5) or 1.
    assert (figure.low, figure.high) == (0.0, 1.0)
    assert figure.value == pytest.approx(51 / 101)


def test_the_interval_leaves_out_a_fortieth_at_each_end() -> None:
    found = estimate(np.array([3.0, *range(1001), math.nan]))
    assert (found.value, found.low, found.high) == (3.0, 25.0, 975.0)


def test_recalls_are_counted_up_to_equal_ones() -> None:
    recall = np.array([part / whole for whole in (7, 100, 360) for part in range(whole + 1)])
    expected = np.searchsorted(np.linspace(0, 1, 101), recall, side="right")
    np.testing.assert_array_equal(_recalls_up_to(recall), expected)


def test_one_family_leaves_no_doubt() -> None:
    content, results = scene()
    for entry in content["annotations"]:
        entry["family"] = "the only one"
    figure = measure(open_truth(content), results, task="proposals")["mask AR@100"]
    assert figure.low == pytest.approx(figure.value)
    assert figure.high == pytest.approx(figure.value)


def test_objects_are_resampled_where_families_are_unknown() -> None:
    content, _ = scene()
    for entry in content["annotations"]:
        del entry["family"]
    truth = open_truth(content)
    assert (truth.unit, truth.families) == ("object", len(content["annotations"]))


def test_missing_annotations_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is unknown, .*annotations\.json.*lay it out"):
        GroundTruth.open(tmp_path)


def test_a_data_set_opens_at_its_validation_split_and_up_to_a_limit(tmp_path: Path) -> None:
    content, _ = scene()
    split = tmp_path / "validation"
    (split / "images").mkdir(parents=True)
    text = json.dumps(content, default=bytes.decode)
    (split / "annotations.json").write_text(text, encoding="utf-8")
    truth = GroundTruth.open(tmp_path, limit=2)
    expected = Image(identifier=2, path=split / "images" / "2.jpg", height=120, width=160)
    assert truth.images[1:] == (expected,)
    assert {o["image_id"] for o in truth.objects} <= {1, 2}


def test_polygons_are_objects_too() -> None:
    content, _ = scene(images=1)
    entry = annotation(1, 1, 3, rectangle(10, 10, 30, 20))
    entry["segmentation"] = [[10, 10, 40, 10, 40, 30, 10, 30]]
    content["annotations"] = [entry]
    results = [{"image_id": 1, "score": 1.0, "segmentation": rectangle(10, 10, 30, 20)}]
    figures = measure(open_truth(content), results, task="proposals", resampling=FEW)
    assert figures["mask AR@100"].value == pytest.approx(1.0)


def test_replicates_must_be_positive() -> None:
    with pytest.raises(OptionError, match="replicates must be at least 1, found 0"):
        Bootstrap(replicates=0)


def test_the_share_of_an_object_is_of_the_area_of_its_image() -> None:
    content, _ = scene(images=3)
    truth = open_truth(content)
    accumulator = Accumulator(truth=truth, region="box", by_class=False, most=1)
    for image in truth.images:
        accumulator.add(image, [o for o in truth.objects if o["image_id"] == image.identifier], [])
    areas = [o["area"] for o in truth.objects if not o["iscrowd"]]
    _, _, shares = accumulator.overlaps()
    np.testing.assert_allclose(np.sort(shares), np.sort(areas) / (120 * 160))
