# SPDX-License-Identifier: Apache-2.0
"""What a device is told to launch for boxes, argument by argument, without a compiler."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kernels.plan_samples import Memory, Scratch, arrays, names_of

from foveate.errors import OptionError
from foveate.kernels.decode_boxes import plan as decode_boxes
from foveate.kernels.finish import plan as finish
from foveate.kernels.nms import plan as nms
from foveate.kernels.plans import FLOAT, INT, UINT, Steps
from foveate.kernels.take_boxes import plan as take_boxes


def test_boxes_are_taken_by_both_factors() -> None:
    boxes, kept, taken = Memory((11, 4)), Memory((6,), INT), Memory((6, 4))
    factors = {"horizontal": 0.7, "vertical": 1.3}
    given = {"boxes": boxes, "kept": kept, "taken": taken, "capacity": 11, "count": 6, **factors}
    assert list(take_boxes.take_boxes(Scratch(), boxes, kept, taken, **factors)) == [
        ("take_boxes", given)
    ]
    nothing = Memory((0,), INT)
    assert names_of(take_boxes.take_boxes(Scratch(), boxes, nothing, taken, **factors)) == []


MEAN, STD = (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)
NUMBERS = {
    "mean_x": 0.1,
    "mean_y": 0.2,
    "mean_w": 0.3,
    "mean_h": 0.4,
    "std_x": 0.5,
    "std_y": 0.6,
    "std_w": 0.7,
    "std_h": 0.8,
}


def test_boxes_are_decoded_by_mean_and_deviation() -> None:
    boxes, deltas, decoded = Memory((7, 4)), Memory((7, 3, 4)), Memory((7, 3, 4), address=5)
    size = {"height": 300, "width": 400}
    steps = decode_boxes.decode_boxes(Scratch(), boxes, deltas, decoded, mean=MEAN, std=STD, **size)
    sizes = {"rows": 7, "classes": 3, **size}
    given = {"boxes": boxes, "deltas": deltas, "results": decoded, **NUMBERS, **sizes}
    assert list(steps) == [("decode_boxes", given)]
    for shape in ((0, 3, 4), (7, 0, 4)):
        empty = Memory(shape)
        assert not names_of(
            decode_boxes.decode_boxes(Scratch(), boxes, empty, empty, mean=MEAN, std=STD, **size)
        )


def test_boxes_are_suppressed_in_four_launches() -> None:
    given = arrays("boxes", "scores", "count", "kept", "kept_count")
    given["kept"] = Memory((5,), INT, 77)
    steps = list(nms.nms(Scratch(), *given.values(), iou=0.4))
    keys, order = Memory((7,), UINT, -1), Memory((7,), INT, -1)
    masks = Memory((7, 1), UINT, -1)
    asked = {name: given[name] for name in ("boxes", "scores", "count")}
    found = {"order": order, "masks": masks, "kept": given["kept"]}
    assert steps == [
        ("nms_keys", {**asked, "keys": keys, "capacity": 7}),
        ("nms_order", {"keys": keys, "order": order, "capacity": 7}),
        (
            "nms_masks",
            {
                "boxes": given["boxes"],
                "groups": None,
                "order": order,
                "masks": masks,
                "capacity": 7,
                "words": 1,
                "iou": 0.4,
            },
        ),
        ("nms_scan", {**found, "kept_count": given["kept_count"], "capacity": 7, "limit": 5}),
    ]


@pytest.mark.parametrize(("boxes", "words"), [(1, 1), (32, 1), (33, 2), (64, 2), (65, 3)])
def test_a_word_has_a_bit_for_each_of_32_boxes(boxes: int, words: int) -> None:
    given = arrays("scores", "count", "kept", "kept_count")
    steps = dict(nms.nms(Scratch(), Memory((boxes, 4)), *given.values(), iou=0.4))
    assert steps["nms_masks"]["words"] == words
    assert steps["nms_masks"]["masks"].shape == (boxes, words)


def test_without_boxes_the_suppression_only_says_so() -> None:
    given = arrays("scores", "count", "kept", "kept_count")
    assert names_of(nms.nms(Scratch(), Memory((0, 4)), *given.values(), iou=0.4)) == ["nms_scan"]


ASKED = ("probabilities", "deltas", "boxes", "scores", "kept", "kept_count")
FOUND = ("found_boxes", "found_scores", "found_labels", "found_rows", "found_count")


def finished(rows: int = 6, classes: int = 3, limit: int = 10) -> tuple[Steps, dict[str, Memory]]:
    given = arrays(*ASKED, *FOUND)
    given["probabilities"] = Memory((rows, classes + 1), address=1)
    given["found_rows"] = Memory((limit,), INT, 2)
    numbers: dict[str, Any] = {"score_threshold": 0.35, "iou": 0.45, "height": 300, "width": 400}
    steps = finish.finish(
        Scratch(), *given.values(), mean=MEAN, std=STD, calibration=(-0.5, 0.75, 0.25), **numbers
    )
    return steps, given


def test_candidates_are_scored_suppressed_by_class_and_gathered() -> None:
    steps, given = finished()
    first, *between, last = steps
    boxes = Memory((18, 4), FLOAT, -1)
    scores, labels = Memory((18,), FLOAT, -1), Memory((18,), INT, -1)
    assert first == (
        "finish_candidates",
        {
            **{name: given[name] for name in ASKED},
            "candidate_boxes": boxes,
            "candidate_scores": scores,
            "candidate_labels": labels,
            "rows": 6,
            "classes": 3,
            "capacity": 7,
            **NUMBERS,
            "bias": -0.5,
            "slope": 0.75,
            "weight": 0.25,
            "score_threshold": 0.35,
            "height": 300,
            "width": 400,
        },
    )
    assert [name for name, _ in between] == ["nms_keys", "nms_order", "nms_masks", "nms_scan"]
    keys, _, masks, scan = (arguments for _, arguments in between)
    assert (keys["boxes"], keys["scores"], keys["count"]) == (boxes, scores, None)
    assert (masks["groups"], masks["iou"]) == (labels, 0.45)
    winners = Memory((10,), INT, -1)
    assert (scan["kept"], scan["kept_count"]) == (winners, given["found_count"])
    assert last == (
        "finish_gather",
        {
            "winners": winners,
            "boxes": boxes,
            "scores": scores,
            "kept": given["kept"],
            **{name: given[name] for name in FOUND[:-1]},
            "limit": 10,
            "classes": 3,
        },
    )


@pytest.mark.parametrize(
    ("rows", "classes", "limit", "names"),
    [
        (0, 3, 10, ["nms_scan", "finish_gather"]),
        (6, 0, 10, ["nms_scan", "finish_gather"]),
        (0, 3, 0, ["nms_scan"]),
    ],
)
def test_without_candidates_nothing_is_scored(
    rows: int, classes: int, limit: int, names: list[str]
) -> None:
    assert names_of(finished(rows, classes, limit)[0]) == names


def test_too_many_candidates_are_refused() -> None:
    assert len(names_of(finished(8192, 8)[0])) == 6
    with pytest.raises(OptionError, match="finish: an array or a grid is too large"):
        names_of(finished(8193, 8)[0])
