# SPDX-License-Identifier: Apache-2.0
"""Options that choose levels, and presets, which are named options of a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_contrast_bundle
from tests.runtime.test_sizes import OWN, SCALES, SHARED

import foveate
from foveate.bundle import PresetSpec, RelativeTime
from foveate.errors import OptionError
from foveate.runtime import PipelineOptions
from foveate.runtime.sizes import Sizes, longest_level

FAST = PresetSpec(
    relative_time=RelativeTime(value=0.3, low=0.2, high=0.4),
    measured={},
    scales=(0.5, 1.0),
    max_side=128,
    top_k=5,
)
PRESETS = {"fast": FAST, "accurate": replace(FAST, scales=None, max_side=None, top_k=40)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contrast_bundle(tmp_path_factory.mktemp("bundles") / "named", presets=PRESETS)


@pytest.fixture
def image() -> np.ndarray:
    pixels = np.zeros((200, 260, 3), np.uint8)
    pixels[40:110, 60:150, 0] = 255
    return pixels


def test_two_different_presets_are_refused(bundle: Path) -> None:
    options = PipelineOptions(preset="accurate")
    with pytest.raises(
        OptionError, match="two presets, 'fast' and 'accurate' in options: pass one"
    ):
        foveate.load(bundle, preset="fast", options=options)
    foveate.load(bundle, preset="accurate", options=options).close()


def test_levels_are_chosen_by_their_scales_in_the_order_of_the_manifest() -> None:
    applied = PipelineOptions(scales=(1.414, 0.177, 0.5)).applied_to(OWN)
    assert applied.pyramid.scales == (0.1768, 0.5, 1.4142)
    assert len(Sizes.of(480, 640, applied).levels) == 3


def test_all_levels_are_used_by_default() -> None:
    assert PipelineOptions().applied_to(OWN).pyramid.scales == SCALES


def test_a_level_that_the_bundle_lacks_is_refused() -> None:
    with pytest.raises(OptionError, match="no level of the scale 0.3: use 0.1768, 0.25, 0.3536"):
        PipelineOptions(scales=(0.3, 0.5)).applied_to(OWN)


def test_no_levels_at_all_are_refused() -> None:
    with pytest.raises(OptionError, match="scales must not be empty: omit the option"):
        PipelineOptions(scales=())


@pytest.mark.parametrize(
    ("scales", "level"), [((0.25, 0.3536, 0.7071), 2), ((0.3536, 0.5), 1), ((0.5, 1.0), 1)]
)
def test_a_shared_trunk_is_read_from_the_nearest_of_the_chosen_levels(
    scales: tuple[float, ...], level: int
) -> None:
    applied = PipelineOptions(scales=scales).applied_to(SHARED)
    sizes = Sizes.of(480, 640, applied).features
    assert sizes is not None
    assert sizes.level == level


def test_levels_beyond_what_a_shared_trunk_can_read_are_refused() -> None:
    with pytest.raises(OptionError) as caught:
        PipelineOptions(scales=(0.1768, 1.4142)).applied_to(SHARED)
    assert str(caught.value) == (
        "with the scales 0.1768, 1.4142 the classifier would read levels of up to 2897 pixels, and "
        "it can read 1449: add smaller levels, and levels between those more than a factor of 2 apart"
    )
    applied = PipelineOptions(scales=(0.1768, 1.4142)).applied_to(OWN)
    assert applied.pyramid.scales == (0.1768, 1.4142)


@pytest.mark.parametrize("first", range(7))
def test_octaves_of_a_shared_trunk_are_within_the_bound_of_its_bundle(first: int) -> None:
    assert SHARED.features is not None
    scales = SCALES[first::2]
    bound = longest_level(SHARED.features, SHARED.pyramid)
    applied = PipelineOptions(scales=scales).applied_to(SHARED)
    for width, height in ((640, 480), (1024, 576), (1024, 60), (4000, 3000), (960, 540)):
        sizes = Sizes.of(height, width, applied).features
        assert sizes is not None
        assert max(sizes.width, sizes.height) <= bound


def test_a_preset_has_the_results_of_its_options(bundle: Path, image: np.ndarray) -> None:
    options = PipelineOptions(scales=(0.5, 1.0), max_side=128, top_k=5)
    with (
        foveate.load(bundle, preset="fast") as named,
        foveate.load(bundle, options=options) as spelled,
        foveate.load(bundle) as default,
    ):
        found, expected, other = (one.propose(image) for one in (named, spelled, default))
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(found) == 5 < len(other)


def test_explicit_options_precede_those_of_a_preset(bundle: Path) -> None:
    options = PipelineOptions(top_k=3)
    with foveate.load(bundle, preset="fast", options=options) as pipeline:
        applied = pipeline.options.applied_to(pipeline.bundle.manifest)
    assert applied.select.top_k == 3
    assert applied.pyramid.max_side == 128
    assert applied.pyramid.scales == (0.5, 1.0)


def test_a_preset_without_values_is_the_bundle(bundle: Path) -> None:
    manifest = foveate.Bundle.open(bundle).manifest
    applied = PipelineOptions(preset="accurate").applied_to(manifest)
    assert applied.pyramid == manifest.pyramid
    assert applied.select.top_k == 40


def test_an_unknown_preset_names_those_that_exist(bundle: Path) -> None:
    with pytest.raises(OptionError, match="'contrast' has no preset 'quick': use fast, accurate"):
        foveate.load(bundle, preset="quick")


def test_a_bundle_without_presets_says_how_to_make_some(contrast_bundle: Path) -> None:
    with pytest.raises(OptionError) as caught:
        foveate.load(contrast_bundle, preset="fast")
    assert str(caught.value) == (
        "the bundle 'contrast' has no presets, found the preset 'fast': omit it, or measure some: "
        "foveate bench sweep, then foveate bench presets"
    )
