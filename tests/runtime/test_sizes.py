# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.bundle import FeaturesSpec, PyramidSpec, WindowSpec
from foveate.runtime.sizes import Sizes

PYRAMID = PyramidSpec(scales=(0.1768, 0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142), max_side=1024)
WINDOWS = WindowSpec(size=160, stride=16, padding=80)
FEATURES = FeaturesSpec(short_side=480, long_side=1024, multiple=32)


def test_grids_of_a_640_by_480_image_are_those_of_the_original() -> None:
    plan = Sizes.of(480, 640, PYRAMID, WINDOWS, FEATURES)
    sizes = [(level.height, level.width) for level in plan.levels]
    assert sizes == [
        (85, 113), (120, 160), (170, 226), (240, 320), (339, 453), (480, 640), (679, 905),
    ]  # fmt: skip
    grids = [(level.rows, level.columns) for level in plan.levels]
    assert grids == [(7, 9), (9, 11), (12, 16), (16, 21), (23, 30), (31, 41), (44, 58)]
    assert sum(rows * columns for rows, columns in grids) == 5203


def test_a_large_image_is_brought_to_its_working_size() -> None:
    plan = Sizes.of(3000, 4000, PYRAMID, WINDOWS, FEATURES)
    assert (plan.working_height, plan.working_width) == (768, 1024)
    assert plan.levels[5].horizontal == 4000 / 1024
    assert plan.features is not None
    assert (plan.features.height, plan.features.width) == (480, 640)


@pytest.mark.parametrize(
    ("size", "features"),
    [((480, 640), (480, 640)), ((240, 320), (480, 640)), ((100, 1000), (102, 1024))],
)
def test_features_see_the_short_side_unless_the_long_one_is_too_long(
    size: tuple[int, int], features: tuple[int, int]
) -> None:
    plan = Sizes.of(*size, PYRAMID, WINDOWS, FEATURES)
    assert plan.features is not None
    assert (plan.features.height, plan.features.width) == features


@given(height=st.integers(1, 20000), width=st.integers(1, 20000))
def test_every_size_has_a_plan_that_keeps_its_promises(height: int, width: int) -> None:
    plan = Sizes.of(height, width, PYRAMID, WINDOWS, FEATURES)
    assert 1 <= plan.working_height <= min(height, 1024)
    assert 1 <= plan.working_width <= min(width, 1024)
    for level in plan.levels:
        assert level.canvas_height % 16 == level.canvas_width % 16 == 0
        # The window of the last cell ends at the end of the canvas.
        assert 16 * (level.rows - 1) + 160 == level.canvas_height
        assert 16 * (level.columns - 1) + 160 == level.canvas_width
        # The centers of the windows reach the far edge of the level.
        assert 16 * (level.rows - 1) >= level.height
        assert level.horizontal * level.width == pytest.approx(width)
    assert plan.features is not None
    assert plan.features.canvas_height % 32 == plan.features.canvas_width % 32 == 0
    assert 1 <= plan.features.height <= 1024
