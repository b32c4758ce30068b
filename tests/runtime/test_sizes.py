# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import (
    classify_stage,
    contrast_manifest,
    features_stage,
    propose_stage,
    refine_stage,
    shared_features_stage,
)

from foveate.bundle import FeaturesSpec, Manifest, PyramidSpec, WindowSpec
from foveate.errors import InputError
from foveate.runtime.sizes import Sizes, check_classifiable

SCALES = (0.1768, 0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142)


def manifest_of(*, shares: bool) -> Manifest:
    """Return a manifest with the numbers of the original, and 480 to 1024 px for the classifier."""
    models = {
        "propose": propose_stage((8, 16) if shares else ()),
        "refine": refine_stage(),
        "features": shared_features_stage() if shares else features_stage(),
        "classify": classify_stage(),
    }
    return replace(
        contrast_manifest({name: spec for name, (_, spec) in models.items()}),
        pyramid=PyramidSpec(scales=SCALES, max_side=1024),
        windows=WindowSpec(size=160, stride=16, padding=80),
        features=FeaturesSpec(short_side=480, long_side=1024),
    )


OWN, SHARED = manifest_of(shares=False), manifest_of(shares=True)


def test_grids_of_a_640_by_480_image_are_those_of_the_original() -> None:
    plan = Sizes.of(480, 640, OWN)
    sizes = [(level.height, level.width) for level in plan.levels]
    assert sizes == [
        (85, 113), (120, 160), (170, 226), (240, 320), (339, 453), (480, 640), (679, 905),
    ]  # fmt: skip
    grids = [(level.rows, level.columns) for level in plan.levels]
    assert grids == [(7, 9), (9, 11), (12, 16), (16, 21), (23, 30), (31, 41), (44, 58)]
    assert sum(rows * columns for rows, columns in grids) == 5203


def test_halves_of_pixels_are_rounded_up() -> None:
    level = Sizes.of(5, 1001, OWN).levels[3]
    assert (level.height, level.width) == (3, 501)  # 2.5 and 500.5


def test_a_large_image_is_brought_to_its_working_size() -> None:
    plan = Sizes.of(3000, 4000, OWN)
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
    plan = Sizes.of(*size, OWN)
    assert plan.features is not None
    assert (plan.features.height, plan.features.width) == features


@given(height=st.integers(1, 20000), width=st.integers(1, 20000))
def test_every_size_has_a_plan_that_keeps_its_promises(height: int, width: int) -> None:
    plan = Sizes.of(height, width, OWN)
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


@given(height=st.integers(1, 500), width=st.integers(1, 500), padding=st.integers(0, 160))
def test_every_level_has_a_window_with_any_padding(height: int, width: int, padding: int) -> None:
    manifest = replace(OWN, windows=WindowSpec(size=160, stride=16, padding=padding))
    for level in Sizes.of(height, width, manifest).levels:
        assert level.rows >= 1
        assert level.columns >= 1
        assert level.canvas_height >= level.height + 2 * padding
        assert level.canvas_width >= level.width + 2 * padding


@pytest.mark.parametrize(
    ("size", "scales", "level"),
    [
        ((480, 640), SCALES, 5),
        ((640, 480), SCALES, 5),
        ((3000, 4000), SCALES, 4),  # 480 of 768 rows is 0.625: 0.7071 is nearer than 0.5 in octaves
        ((4000, 3000), SCALES, 4),
        ((1000, 100), SCALES, 5),  # the long side is bounded
        ((1, 1), SCALES, 6),
        ((20000, 20000), SCALES, 3),  # 480 of 1024
        ((480, 640), (0.5, 2.0), 0),  # the first of two that are equally near
        ((480, 640), (2.0, 0.6), 1),
        ((480, 640), (4.0,), 0),
        ((657, 900), (0.5, 1.0), 1),  # 0.73 is nearer to 0.5, but not in octaves
    ],
)
def test_a_classifier_without_a_trunk_sees_the_nearest_level(
    size: tuple[int, int], scales: tuple[float, ...], level: int
) -> None:
    pyramid = PyramidSpec(scales=scales, max_side=1024)
    plan = Sizes.of(*size, replace(SHARED, pyramid=pyramid))
    assert plan.features is not None
    assert plan.features.level == level


def test_a_longer_working_image_leaves_the_classifier_a_smaller_level() -> None:
    pyramid = replace(SHARED.pyramid, max_side=1 << 30)
    plan = Sizes.of(3000, 4000, replace(SHARED, pyramid=pyramid))
    assert plan.features is not None
    assert plan.features.level == 0  # 480 of 3000 rows is 0.16


@given(height=st.integers(1, 20000), width=st.integers(1, 20000))
def test_a_classifier_without_a_trunk_sees_the_canvas_of_its_level(height: int, width: int) -> None:
    plan = Sizes.of(height, width, SHARED)
    seen = plan.features
    assert seen is not None
    assert seen.level is not None
    level = plan.levels[seen.level]
    assert (seen.canvas_height, seen.canvas_width) == (level.canvas_height, level.canvas_width)
    assert seen.border == 80
    # The corner of the image is the corner of the level, beyond the border.
    assert seen.horizontal * width == pytest.approx(level.width)
    assert seen.vertical * height == pytest.approx(level.height)


def test_a_working_image_that_is_too_long_for_the_classifier_is_refused() -> None:
    pyramid = replace(SHARED.pyramid, max_side=1 << 30)
    sizes = Sizes.of(30, 8200, replace(SHARED, pyramid=pyramid))
    message = (
        "the classifier takes a working image of at most 8195 pixels on its longer side, found "
        "8200x30: load the bundle with pyramid='working-size' and max_side of at most 8195, or use "
        "Pipeline.propose"
    )
    with pytest.raises(InputError) as caught:
        check_classifiable(sizes, SHARED)
    assert str(caught.value) == message


def test_the_longest_working_image_that_is_named_is_classified() -> None:
    pyramid = replace(SHARED.pyramid, max_side=8195)
    check_classifiable(Sizes.of(30, 20_000, replace(SHARED, pyramid=pyramid)), SHARED)


def test_a_classifier_may_see_a_smallest_level_that_is_longer_than_it_asks_for() -> None:
    enlarging = replace(SHARED, pyramid=PyramidSpec(scales=(2.0,), max_side=1024))
    check_classifiable(Sizes.of(1024, 1000, enlarging), enlarging)  # a level of 2048 pixels


def test_a_classifier_with_a_trunk_takes_images_of_any_length() -> None:
    pyramid = replace(OWN.pyramid, max_side=1 << 30)
    check_classifiable(Sizes.of(30, 20_000, replace(OWN, pyramid=pyramid)), OWN)


@given(height=st.integers(1, 20000), width=st.integers(1, 20000))
def test_every_image_can_be_classified_at_the_working_size(height: int, width: int) -> None:
    check_classifiable(Sizes.of(height, width, SHARED), SHARED)
