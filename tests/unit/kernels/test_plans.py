# SPDX-License-Identifier: Apache-2.0
"""What a device is told to launch, argument by argument, without a device or a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from foveate.errors import OptionError
from foveate.kernels.bilinear_upsample import plan as bilinear_upsample
from foveate.kernels.decode_boxes import plan as decode_boxes
from foveate.kernels.finish import plan as finish
from foveate.kernels.gather_windows import plan as gather_windows
from foveate.kernels.nms import plan as nms
from foveate.kernels.plans import FLOAT, INT, UINT, Steps
from foveate.kernels.pyramid import plan as pyramid
from foveate.kernels.select_top_k import plan as select_top_k
from foveate.kernels.take_boxes import plan as take_boxes

HALF = np.dtype(np.float16)


@dataclass(frozen=True)
class Memory:
    """An array of a device that exists by its address alone."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = FLOAT
    address: int = 0x1000
    content: list[Any] = field(default_factory=list)


class Scratch:
    """Remembers what was asked of it."""

    def upload(self, array: np.ndarray) -> Memory:
        return Memory(array.shape, array.dtype, content=array.tolist())

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Memory:
        return Memory(shape, dtype, address=-1)


def arrays(*names: str, shape: tuple[int, ...] = (7, 4)) -> dict[str, Memory]:
    return {name: Memory(shape, address=0x100 * (1 + i)) for i, name in enumerate(names)}


def names_of(steps: Steps) -> list[str]:
    return [name for name, _ in steps]


# --- windows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "address", "kernel"),
    [
        ((5, 6, 8, 8), FLOAT, 0x1000, "f32x4"),
        ((5, 4), FLOAT, 0x1000, "f32x4"),
        ((5, 4), HALF, 0x1000, "f16x1"),
        ((5, 24, 1, 1), HALF, 0x1000, "f16x8"),
        ((5, 3, 3, 3), FLOAT, 0x1000, "f32x1"),
        ((5, 2, 3, 3), FLOAT, 0x1000, "f32x1"),
        ((5, 6, 8, 8), FLOAT, 0x1008, "f32x1"),
        ((5, 6, 8, 8), FLOAT, 0x100F, "f32x1"),
    ],
)
def test_windows_are_gathered_sixteen_bytes_at_a_time_where_they_can_be(
    shape: tuple[int, ...], dtype: np.dtype[Any], address: int, kernel: str
) -> None:
    patches, picks = Memory(shape, dtype, address), Memory((5, 3), INT)
    maps = [Memory((1, shape[1], 10 + level, 20 + level), dtype, 64 * level) for level in (1, 2, 3)]
    ((name, given),) = gather_windows.gather_windows(Scratch(), maps, picks, patches, step=2)
    assert name == f"gather_windows_{kernel}"
    assert given.pop("maps").content == [64, 128, 192]
    assert given.pop("shapes").content == [[11, 21], [12, 22], [13, 23]]
    assert given == {
        "picks": picks,
        "patches": patches,
        "count": 5,
        "levels": 3,
        "channels": shape[1],
        "size": shape[-1] if len(shape) == 4 else 1,
        "step": 2,
    }


@pytest.mark.parametrize("shape", [(0, 6, 8, 8), (5, 0, 8, 8), (5, 6, 0, 0)])
def test_nothing_is_launched_for_windows_without_values(shape: tuple[int, ...]) -> None:
    maps = [Memory((1, 6, 10, 20))]
    steps = gather_windows.gather_windows(Scratch(), maps, Memory((5, 3)), Memory(shape), step=1)
    assert names_of(steps) == []


def select(grids: Sequence[Memory], limit: int = 9) -> Steps:
    return select_top_k.select_top_k(
        Scratch(),
        grids,
        Memory((limit, 3), INT, 1),
        Memory((limit, 4), FLOAT, 2),
        Memory((limit,), FLOAT, 3),
        Memory((1,), INT, 4),
        factors=[(2.5, 2.25)] * len(grids),
        size=160,
        stride=16,
        padding=80,
        window_nms=0.7,
    )


def test_windows_are_selected_from_the_cells_of_all_levels() -> None:
    grids = [Memory((1, 1, 3, 5), address=8), Memory((1, 1, 6, 7), address=16)]
    cells, order, scan = select(grids)
    assert [name for name, _ in (cells, order, scan)] == [
        "select_cells",
        "select_order",
        "select_scan",
    ]
    given, known = cells[1], ("grids", "shapes", "starts")
    assert [given[name].content for name in known] == [[8, 16], [[3, 5], [6, 7]], [0, 15, 57]]
    assert given["factors"].content == [[2.5, 2.25]] * 2
    numbers = {name: given[name] for name in ("levels", "cells", "size", "stride", "padding")}
    assert numbers == {"levels": 2, "cells": 57, "size": 160, "stride": 16, "padding": 80}
    made = {name: (given[name].shape, given[name].dtype) for name in ("keys", "windows")}
    assert made == {"keys": ((57,), UINT), "windows": ((57, 4), FLOAT)}
    assert order[1] == {
        "keys": given["keys"],
        "order": Memory((57,), INT, -1),
        "cells": 57,
    }
    assert scan[1] == {
        **{name: given[name] for name in known},
        "order": order[1]["order"],
        "windows": given["windows"],
        "picks": Memory((9, 3), INT, 1),
        "geometry": Memory((9, 4), FLOAT, 2),
        "scores": Memory((9,), FLOAT, 3),
        "count": Memory((1,), INT, 4),
        "levels": 2,
        "cells": 57,
        "limit": 9,
        "iou": 0.7,
    }


def test_without_cells_the_selection_only_says_so() -> None:
    assert names_of(select([Memory((1, 1, 0, 5))])) == ["select_scan"]
    assert names_of(select([])) == ["select_scan"]


def test_too_many_cells_or_windows_are_refused() -> None:
    assert len(names_of(select([Memory((1, 1, 256, 256))], 2048))) == 3
    with pytest.raises(OptionError, match="select_top_k: an array or a grid is too large"):
        names_of(select([Memory((1, 1, 256, 256)), Memory((1, 1, 1, 1))]))
    with pytest.raises(OptionError, match="select_top_k: an array or a grid is too large"):
        names_of(select([Memory((1, 1, 3, 5))], 2049))


@pytest.mark.parametrize(("dtype", "kernel"), [(FLOAT, "f32"), (HALF, "f16")])
def test_boxes_of_masks_are_pasted_without_bits_and_reduced(
    dtype: np.dtype[Any], kernel: str
) -> None:
    given: dict[str, Any] = {
        "logits": Memory((6, 40, 40), dtype),
        "geometry": Memory((6, 4)),
        "count": Memory((1,), INT),
    }
    boxes = Memory((6, 4), address=9)
    numbers: dict[str, Any] = {"threshold": 0.25, "picture_height": 130, "picture_width": 200}
    paste, reduce = bilinear_upsample.mask_boxes(Scratch(), **given, boxes=boxes, **numbers)
    assert paste[0] == f"paste_windows_{kernel}"
    partials = paste[1]["partials"]
    assert (partials.shape, partials.dtype) == ((6, 3, 5), INT)
    expected = {
        **given,
        "columns": None,
        "bits": None,
        "windows": 6,
        "size": 40,
        "height": 130,
        "width": 200,
        "threshold": 0.25,
        "square": 0,
    }
    assert expected.items() <= paste[1].items()
    assert reduce == (
        "paste_boxes",
        {"partials": partials, "areas": None, "boxes": boxes, "windows": 6, "bands": 3},
    )


# --- pictures -------------------------------------------------------------------------------


def test_resizing_is_told_both_sizes() -> None:
    picture, resized = Memory((30, 50, 3)), Memory((20, 40, 3))
    assert list(pyramid.resize(Scratch(), picture, resized)) == [
        (
            "pyramid_resize",
            {
                "picture": picture,
                "resized": resized,
                "picture_height": 30,
                "picture_width": 50,
                "height": 20,
                "width": 40,
                "resampling": 0,
            },
        )
    ]


def place(picture: Memory, canvas: Memory) -> Steps:
    numbers = {"height": 30, "width": 50, "border": 8}
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
    return pyramid.place(Scratch(), picture, canvas, mean=mean, std=std, fill=9, **numbers)


@pytest.mark.parametrize(("dtype", "kernel"), [(FLOAT, "f32"), (HALF, "f16")])
def test_a_picture_is_placed_by_a_table_of_normalised_bytes(
    dtype: np.dtype[Any], kernel: str
) -> None:
    picture, canvas = Memory((31, 52, 3)), Memory((1, 3, 65, 200), dtype, 0x20)
    ((name, given),) = place(picture, canvas)
    assert name == f"pyramid_place_{kernel}"
    assert given.pop("canvases").content == [0x20]
    assert given.pop("plan").content == [65, 200, 30, 50, 8, 0]
    table = np.array(given.pop("table").content)
    assert table.shape == (3, 256)
    assert table[:, 0] == pytest.approx([-5, -5, -6])
    assert table[:, 255] == pytest.approx([122.5, 58.75, 45])
    assert given == {
        "picture": picture,
        "picture_height": 31,
        "picture_width": 52,
        "levels": 1,
        "blocks": 2 * 4,
        "resampling": 0,
        "to_bytes": 1,
        "fill": 9,
    }


@pytest.mark.parametrize("side", [(16385, 4), (4, 16385)])
def test_pictures_with_a_side_beyond_the_kernels_are_refused(side: tuple[int, int]) -> None:
    large, small = Memory((*side, 3)), Memory((4, 4, 3))
    for steps in (
        pyramid.resize(Scratch(), large, small),
        pyramid.resize(Scratch(), small, large),
        place(large, Memory((1, 3, 64, 64))),
        place(small, Memory((1, 3, *side))),
    ):
        with pytest.raises(OptionError, match="an array or a grid is too large"):
            names_of(steps)


# --- boxes ----------------------------------------------------------------------------------


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
    numbers: dict[str, Any] = {"min_score": 0.35, "iou": 0.45, "height": 300, "width": 400}
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
            "min_score": 0.35,
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
