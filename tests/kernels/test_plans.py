# SPDX-License-Identifier: Apache-2.0
"""What a device is told to launch for windows and images, argument by argument, without a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.kernels.plan_samples import HALF, Memory, Scratch, names_of

from foveate.errors import OptionError
from foveate.kernels.gather_windows import plan as gather_windows
from foveate.kernels.mask_boxes import plan as mask_boxes
from foveate.kernels.plans import FLOAT, INT, UINT, Steps
from foveate.kernels.pyramid import plan as pyramid
from foveate.kernels.select_top_k import plan as select_top_k

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
        window_nms_iou=0.7,
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
    numbers: dict[str, Any] = {"threshold": 0.25, "image_height": 130, "image_width": 200}
    paste, reduce = mask_boxes.mask_boxes(Scratch(), **given, boxes=boxes, **numbers)
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


# --- images -------------------------------------------------------------------------------


def test_resizing_is_told_both_sizes() -> None:
    image, resized = Memory((30, 50, 3)), Memory((20, 40, 3))
    assert list(pyramid.resize(Scratch(), image, resized)) == [
        (
            "pyramid_resize",
            {
                "image": image,
                "resized": resized,
                "image_height": 30,
                "image_width": 50,
                "height": 20,
                "width": 40,
                "resampling": 0,
            },
        )
    ]


def place(image: Memory, canvas: Memory) -> Steps:
    numbers = {"height": 30, "width": 50, "border": 8}
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
    return pyramid.place(Scratch(), image, canvas, mean=mean, std=std, fill=9, **numbers)


@pytest.mark.parametrize(("dtype", "kernel"), [(FLOAT, "f32"), (HALF, "f16")])
def test_an_image_is_placed_by_a_table_of_normalised_bytes(
    dtype: np.dtype[Any], kernel: str
) -> None:
    image, canvas = Memory((31, 52, 3)), Memory((1, 3, 65, 200), dtype, 0x20)
    ((name, given),) = place(image, canvas)
    assert name == f"pyramid_place_{kernel}"
    assert given.pop("canvases").content == [0x20]
    assert given.pop("plan").content == [65, 200, 30, 50, 8, 0]
    table = np.array(given.pop("table").content)
    assert table.shape == (3, 256)
    assert table[:, 0] == pytest.approx([-5, -5, -6])
    assert table[:, 255] == pytest.approx([122.5, 58.75, 45])
    assert given == {
        "image": image,
        "image_height": 31,
        "image_width": 52,
        "levels": 1,
        "blocks": 2 * 4,
        "resampling": 0,
        "to_bytes": 1,
        "fill": 9,
    }


@pytest.mark.parametrize("side", [(16385, 4), (4, 16385)])
def test_images_with_a_side_beyond_the_kernels_are_refused(side: tuple[int, int]) -> None:
    large, small = Memory((*side, 3)), Memory((4, 4, 3))
    for steps in (
        pyramid.resize(Scratch(), large, small),
        pyramid.resize(Scratch(), small, large),
        place(large, Memory((1, 3, 64, 64))),
        place(small, Memory((1, 3, *side))),
    ):
        with pytest.raises(OptionError, match="an array or a grid is too large"):
            names_of(steps)
