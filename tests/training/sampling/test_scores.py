# SPDX-License-Identifier: Apache-2.0
"""DeepMask's score samples: scales of positives, distances of negatives, crowds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples.drawings import white_box

from foveate.datasets import CocoDataset
from foveate.errors import DataError
from foveate.evaluation.legacy import LegacyOptions
from foveate.training.sampling.samplers import ScoreSampler, is_negative, scale_bins
from foveate.training.sampling.samples import ScoreSamplerOptions, WindowOptions, sample_generator

HEIGHT, WIDTH = 240, 320
POSITIVE = ScoreSamplerOptions(positive=1, window=WindowOptions(flip=0))
RELEASED = LegacyOptions.original()

Box = tuple[float, float, float, float]


def write(directory: Path, boxes: list[Box], *, crowd: int = 0) -> CocoDataset:
    """One gray image with white rectangles."""
    (directory / "images").mkdir()
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    annotations = []
    for identifier, (x, y, width, height) in enumerate(boxes, 1):
        image[int(y) : int(y + height), int(x) : int(x + width)] = 255
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        annotations.append(
            {
                "id": identifier,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [corners],
                "bbox": [x, y, width, height],
                "area": width * height,
                "iscrowd": crowd,
            }
        )
    cv2.imwrite(str(directory / "images" / "1.png"), image)
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": annotations,
    }
    (directory / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return CocoDataset(directory)


def test_bins_are_centerd_on_the_canonical_size() -> None:
    sides = 92 * 2.0 ** np.array([-0.13, -0.12, 0, 0.12, 0.13, 1])
    bins = scale_bins(sides, ScoreSamplerOptions(), LegacyOptions())
    assert bins.tolist() == [-1, 0, 0, 0, 1, 4]


@settings(max_examples=100)
@given(st.floats(0.1, 5000))
def test_an_object_is_shown_within_an_eighth_octave_of_the_canonical_size(side: float) -> None:
    chosen = scale_bins(np.array([side]), ScoreSamplerOptions(), LegacyOptions())
    shown = side * 2.0 ** (-0.25 * float(chosen[0]))
    assert abs(np.log2(shown / 92)) <= 0.125 + 1e-9


@settings(max_examples=100)
@given(st.floats(0.5, 5000))
def test_released_bins_show_objects_up_to_a_quarter_octave_larger(side: float) -> None:
    """As the loop of `createBBstruct` finds them: the first bin whose bounds hold the object."""
    chosen = int(scale_bins(np.array([side]), ScoreSamplerOptions(), RELEASED)[0])
    matches = (
        s for s in range(-64, 65) if 92 * 2 ** ((s - 1) * 0.25) < side <= 92 * 2 ** ((s + 1) * 0.25)
    )
    assert chosen == next(matches)


@pytest.mark.parametrize("side", [23.0, 92.0, 184.0])
def test_a_positive_holds_its_object_in_the_middle(tmp_path: Path, side: float) -> None:
    dataset = write(tmp_path, [(60, 30, side, side)])
    sample = ScoreSampler(dataset, POSITIVE).draw(np.random.default_rng(0))
    assert sample.label == 1
    np.testing.assert_allclose(white_box(sample.patch), [50, 50, 142, 142], atol=1.2)


def test_released_positives_lie_up_to_two_pixels_off(tmp_path: Path) -> None:
    """At 23 px: bin -9, a window of 40 px at 71 - 1 - 20, of which 39 are stretched over 191."""
    dataset = write(tmp_path, [(60, 30, 23, 23)])
    sample = ScoreSampler(dataset, POSITIVE, RELEASED).draw(np.random.default_rng(0))
    left, top, right, bottom = white_box(sample.patch)
    assert right - left == pytest.approx(23 * 191 / 39, abs=1)
    assert (left + right) / 2 == pytest.approx((60 + 11.5 - 0.5 - 50) * 191 / 39 + 0.5, abs=1)
    assert (top + bottom) / 2 == pytest.approx((30 + 11.5 - 0.5 - 20) * 191 / 39 + 0.5, abs=1)


def test_scales_are_drawn_before_objects(tmp_path: Path) -> None:
    """One large object is drawn as often as ten small ones together."""
    small = [(5.0 + 30 * i, 5.0, 23.0, 23.0) for i in range(10)]
    sampler = ScoreSampler(write(tmp_path, [*small, (50, 40, 184, 184)]))
    rng = np.random.default_rng(0)
    scales = Counter(sampler._positive(rng)[1][2] for _ in range(1000))
    assert set(scales) == {2.0, -1.0}
    assert abs(scales[2.0] - 500) < 60


NEGATIVES = [
    ((100.0, 100.0, 0.0), False),  # on the object, at its scale
    ((131.0, 69.0, 0.0), False),  # 31 px away on both axes
    ((132.0, 100.0, 0.0), True),  # 32 px away on one
    ((116.0, 100.0, 1.0), True),  # 16 px away, enlarged twice, and an octave too large
    ((115.0, 100.0, 0.99), False),  # just below both
    ((100.0, 100.0, -1.0), True),  # centerd, but an octave too small
    ((100.0, 100.0, -0.99), False),
]


@pytest.mark.parametrize(("place", "expected"), NEGATIVES)
def test_a_negative_is_32_px_or_an_octave_away(
    place: tuple[float, float, float], expected: bool
) -> None:
    box = np.array([[54.0, 54.0, 92.0, 92.0]])
    assert is_negative(place, box, ScoreSamplerOptions()) == expected


def test_every_negative_keeps_its_distance(tmp_path: Path) -> None:
    objects: list[Box] = [(10, 10, 60, 90), (150, 60, 140, 120), (5, 180, 30, 30)]
    dataset = write(tmp_path, objects)
    options = ScoreSamplerOptions()
    sampler = ScoreSampler(dataset, options)
    rng = np.random.default_rng(0)
    places = [sampler._negative(rng)[1] for _ in range(300)]
    for x, y, scale in places:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
        for left, top, width, height in dataset.annotations.boxes.tolist():
            distance = max(abs(left + width / 2 - x), abs(top + height / 2 - y)) * 2**scale
            octaves = abs(np.log2(max(width, height) * 2**scale / 92))
            assert distance >= 32 or octaves >= 1
    assert {scale for _, _, scale in places} == set(np.arange(-3, 2.25, 0.25).tolist())


def test_a_crowd_is_no_positive_but_keeps_negatives_away(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(10, 10, 90, 90)], crowd=1)
    with pytest.raises(DataError, match="of 1 annotated objects 1 are crowds"):
        ScoreSampler(dataset)
    released = ScoreSampler(dataset, legacy=LegacyOptions(crowds_as_positives=True))
    assert released._positive(np.random.default_rng(0))[1] == (55.0, 55.0, 0.0)
    assert not released._is_negative(0, (55.0, 55.0, 0.0), last=False)


def test_released_negatives_compare_places_of_different_frames(tmp_path: Path) -> None:
    """An object of 46 px at (50, 50) is looked up at (100, 100), also from windows not enlarged."""
    dataset = write(tmp_path, [(27, 27, 46, 46)])
    sampler = ScoreSampler(dataset, legacy=LegacyOptions(unscaled_negatives=True))
    assert sampler._is_negative(0, (50.0, 50.0, 0.0), last=False)
    assert not sampler._is_negative(0, (100.0, 100.0, 0.0), last=False)
    assert sampler._is_negative(0, (100.0, 100.0, 0.0), last=True)


@pytest.mark.parametrize(
    ("place", "negative"),
    [
        ((147.9, 100.0, 0.0), False),
        ((148.1, 100.0, 0.0), True),  # 48 px beside the center
        ((100.0, 51.9, 0.0), True),
        ((100.0 / 2**2.5, 100.0 / 2**2.5, 2.5), False),  # ten bins of a quarter octave
        ((100.0 / 2**2.75, 100.0 / 2**2.75, 2.75), True),
        ((100.0 * 2**2.5, 100.0 * 2**2.5, -2.5), False),
        ((100.0 * 2**2.75, 100.0 * 2**2.75, -2.75), True),
    ],
)
def test_released_negatives_are_refused_within_48_px_and_ten_bins(
    tmp_path: Path, place: tuple[float, float, float], negative: bool
) -> None:
    dataset = write(tmp_path, [(54, 54, 92, 92)])  # of the canonical size, around (100, 100)
    sampler = ScoreSampler(dataset, legacy=LegacyOptions(unscaled_negatives=True))
    assert sampler._is_negative(0, place, last=False) is negative


def test_half_of_the_scores_are_positive(tmp_path: Path) -> None:
    sampler = ScoreSampler(write(tmp_path, [(60, 30, 92, 92)]))
    labels = [int(sampler.draw(sample_generator(0, 0, i)).label) for i in range(100)]
    assert 35 <= sum(labels) <= 65


def test_an_impossible_negative_is_an_error(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(60, 30, 92, 92)])
    options = ScoreSamplerOptions(positive=0, negative_shift=1e9, negative_octaves=99, tries=2)
    with pytest.raises(DataError, match="no window is a negative"):
        ScoreSampler(dataset, options).draw(np.random.default_rng(0))


def test_the_middle_of_a_window_stays_in_the_image_on_either_axis(tmp_path: Path) -> None:
    sampler = ScoreSampler(write(tmp_path, [(50, 40, 60, 60)]), POSITIVE)
    inside = sampler.window(0, (300.0, 120.0, 0.0))  # right of where a square image would end
    assert inside.left + inside.side / 2 == pytest.approx(300, abs=1)
    assert inside.top + inside.side / 2 == pytest.approx(120, abs=1)
    beyond = sampler.window(0, (900.0, 900.0, 0.0))
    assert beyond.left + beyond.side / 2 == pytest.approx(WIDTH, abs=1)
    assert beyond.top + beyond.side / 2 == pytest.approx(HEIGHT, abs=1)
