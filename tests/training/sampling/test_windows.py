# SPDX-License-Identifier: Apache-2.0
"""Windows, patches, and the samples of DeepMask and SharpMask."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from tests.samples.drawings import white_box

from foveate.datasets import CocoDataset
from foveate.errors import DataError
from foveate.evaluation.legacy import LegacyOptions
from foveate.training.sampling.samplers import MaskSampler, ScoreSampler, jittered_window
from foveate.training.sampling.samples import (
    MaskSamplerOptions,
    RegionSamplerOptions,
    ScoreSamplerOptions,
    WindowOptions,
    sample_generator,
)
from foveate.training.sampling.windows import FILL, Window, code_label, cut, polygon_label

# pycocotools decodes into an array type of its own, of which NumPy 2 disapproves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 240, 320
NOWHERE = MaskSamplerOptions(shift=0, octaves=0, window=WindowOptions(flip=0))
RELEASED = LegacyOptions.original()

boxes = st.tuples(
    st.floats(-20, 600), st.floats(-20, 440), st.floats(5, 640), st.floats(5, 480)
).map(np.array)


def rectangle(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def write(
    directory: Path,
    objects: list[tuple[int, int, list[float]]],
    *,
    code: bool = False,
    crowd: int = 0,
) -> CocoDataset:
    """A data set of gray images with white rectangles; of each object image, category, box."""
    (directory / "images").mkdir()
    numbers = sorted({image for image, _, _ in objects})
    images = {n: np.full((HEIGHT, WIDTH, 3), 60, np.uint8) for n in numbers}
    annotations: list[dict[str, Any]] = []
    for image, category, box in objects:
        x, y, width, height = (round(v) for v in box)
        images[image][max(y, 0) : y + height, max(x, 0) : x + width] = 255
        segmentation: Any = rectangle(*box)
        if code:
            mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
            mask[max(y, 0) : y + height, max(x, 0) : x + width] = 1
            rle = coco_mask.encode(mask)
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": category,
                "segmentation": segmentation,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd,
            }
        )
    for number, pixels in images.items():
        cv2.imwrite(str(directory / "images" / f"{number}.png"), pixels)
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in numbers
        ],
        "categories": [{"id": c, "name": str(c)} for c in sorted({c for _, c, _ in objects})],
        "annotations": annotations,
    }
    (directory / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return CocoDataset(directory)


# --- windows --------------------------------------------------------------------------------


def test_a_window_of_the_patchs_size_is_a_copy() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    patch = cut(image, Window(left=1, top=2, side=2), 2)
    np.testing.assert_array_equal(patch, image[2:4, 1:3])
    assert not np.shares_memory(patch, image)


def test_what_lies_outside_is_filled() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    patch = cut(image, Window(left=-2, top=3, side=4), 4)
    assert (patch[0, 2:] == 0).all()
    assert (patch[1:] == FILL).all()
    assert (patch[0, :2] == FILL).all()


def test_a_window_beside_the_image_is_all_fill() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    assert (cut(image, Window(left=90, top=0, side=8), 4) == FILL).all()
    assert (cut(image, Window(left=90.5, top=0, side=2.5), 4) == FILL).all()


def test_shrinking_averages_whole_areas() -> None:
    image = np.array([[0, 100, 7, 9], [200, 100, 7, 9]], np.uint8)
    np.testing.assert_array_equal(cut(image, Window(left=0, top=0, side=2), 1), [[100]])


def test_shrinking_reads_every_pixel() -> None:
    image = np.zeros((4, 4), np.uint8)
    image[0], image[3, 3] = 160, 80  # which a bilinear interpolation leaves out
    np.testing.assert_array_equal(cut(image, Window(left=0, top=0, side=4), 1), [[45]])


def test_enlarging_keeps_the_corners_of_corner_pixels() -> None:
    """Twice as large: samples at -.25, .25, .75, 1.25 pixels from the first center."""
    image = np.array([[0, 100]] * 2, np.uint8)
    patch = cut(image, Window(left=0, top=0, side=2), 4, fill=0)
    np.testing.assert_allclose(patch[1], [0, 25, 75, 75], atol=2)


def test_enlarging_with_aligned_corners_keeps_their_centers() -> None:
    image = np.array([[0, 120]] * 2, np.uint8)
    patch = cut(image, Window(left=0, top=0, side=2), 4, fill=0, aligned_corners=True)
    np.testing.assert_allclose(patch[1], [0, 40, 80, 120], atol=2)


def test_only_a_window_that_is_shrunk_is_moved_to_whole_pixels() -> None:
    assert Window(left=0.5, top=-0.6, side=5.4).settled(5) == Window(left=1, top=-1, side=5)
    assert Window(left=0.5, top=-0.6, side=5.0).settled(5) == Window(left=1, top=-1, side=5)
    assert Window(left=0.5, top=-0.6, side=4.9).settled(5) == Window(left=0.5, top=-0.6, side=4.9)


def test_a_polygons_label_is_drawn_in_the_window() -> None:
    polygons = [np.array([[10.0, 20], [14, 20], [14, 22], [10, 22]])]
    label = polygon_label(polygons, Window(left=8, top=18, side=8), 4)
    expected = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(label, expected)


def test_a_pixel_of_a_label_belongs_to_an_object_that_covers_more_than_half_of_it() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:10, :4], mask[:10, 10:16] = 1, 1  # 40 and 60 percent
    label = code_label(mask, Window(left=0, top=0, side=20), 2, 2, 2)
    np.testing.assert_array_equal(label, [[0, 1], [0, 0]])


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(12, 90), st.integers(12, 90))
def test_polygons_and_codes_give_nearly_the_same_label(x: int, y: int, w: int, h: int) -> None:
    mask = np.zeros((160, 160), np.uint8)
    mask[y : y + h, x : x + w] = 1
    window = Window.around(x + w / 2, y + h / 2, max(w, h) * 192 / 92).settled(192)
    polygons = [np.array(rectangle(x, y, w, h)[0]).reshape(-1, 2)]
    drawn = polygon_label(polygons, window.inner(160 / 192), 112)
    averaged = code_label(mask, window, 192, 160, 112)
    boundary = 2 * (w + h) * 112 / 160 * 192 / window.side
    assert (drawn != averaged).sum() <= boundary


# --- masks ----------------------------------------------------------------------------------


@settings(max_examples=200)
@given(boxes, st.integers(0, 10_000))
def test_jitter_stays_within_16_px_and_a_quarter_octave(box: Any, seed: int) -> None:
    window = jittered_window(box, MaskSamplerOptions(), np.random.default_rng(seed))
    enlargement = 192 / window.side
    offset = (box[:2] + box[2:] / 2 - window.center) * enlargement
    assert np.abs(offset).max() <= 16 + 1e-6
    assert abs(np.log2(box[2:].max() * enlargement / 92)) <= 0.25 + 1e-9


def test_jitter_fills_its_range_evenly() -> None:
    rng = np.random.default_rng(0)
    box = np.array([100.0, 80, 92, 40])
    windows = [jittered_window(box, MaskSamplerOptions(), rng) for _ in range(4000)]
    octaves = np.array([np.log2(192 / w.side) for w in windows])
    shifts = np.array([(np.array([146, 100]) - w.center) * 192 / w.side for w in windows])
    for values, reach in ((octaves, 0.25), (shifts[:, 0], 16), (shifts[:, 1], 16)):
        counts, _ = np.histogram(values, bins=8, range=(-reach, reach))
        assert counts.sum() == 4000
        assert counts.min() > 400
    assert np.abs(np.corrcoef([octaves, *shifts.T]) - np.eye(3)).max() < 0.1  # independently


@pytest.mark.parametrize("side", [20.0, 46.0, 92.0, 150.0])
@pytest.mark.parametrize("code", [False, True])
def test_a_canonical_object_is_92_px_in_the_middle(tmp_path: Path, side: float, code: bool) -> None:
    dataset = write(tmp_path, [(1, 1, [80, 60, side, side])], code=code)
    sample = MaskSampler(dataset, NOWHERE).draw(np.random.default_rng(0))
    assert sample.patch.shape == (192, 192, 3)
    np.testing.assert_allclose(white_box(sample.patch), [50, 50, 142, 142], atol=1.2)
    rows, columns = np.nonzero(sample.mask)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(edges, np.array([34, 34, 126, 126]) * 112 / 160, atol=1.2)


@pytest.mark.parametrize("side", [24.0, 70.0, 130.0])
@pytest.mark.parametrize("code", [False, True])
def test_patch_and_mask_show_the_same_place(tmp_path: Path, side: float, code: bool) -> None:
    """Whatever the jitter: at SharpMask's size a label's pixel is a patch's pixel."""
    dataset = write(tmp_path, [(1, 1, [120, 80, side, side / 2])], code=code)
    sampler = MaskSampler(dataset, MaskSamplerOptions(label_side=160))
    for index in range(6):
        sample = sampler.draw(sample_generator(0, 0, index))
        bright = sample.patch[16:176, 16:176, 0] > 158
        assert sample.mask.shape == (160, 160)
        assert (bright != sample.mask).mean() < 0.012


def test_half_of_the_samples_are_mirrored_together_with_their_masks(tmp_path: Path) -> None:
    """The object hangs over the image's left edge, where the fill is."""
    dataset = write(tmp_path, [(1, 1, [0, 80, 60, 92])])
    options = MaskSamplerOptions(label_side=160)
    sampler = MaskSampler(dataset, options)
    mirrored = 0
    for index in range(40):
        sample = sampler.draw(sample_generator(3, 0, index))
        fill_is_right = bool((sample.patch[96, -1] == FILL).all())
        assert fill_is_right != bool((sample.patch[96, 0] == FILL).all())
        bright = sample.patch[16:176, 16:176, 0] > 158
        assert (bright != sample.mask).mean() < 0.012
        mirrored += fill_is_right
    assert 11 <= mirrored <= 29


def test_categories_are_drawn_equally_often(tmp_path: Path) -> None:
    """Eight squares of one category, a flat and an upright rectangle of two others."""
    squares = [(1, 1, [10.0 + 30 * i, 10, 20, 20]) for i in range(8)]
    others = [(1, 5, [10.0, 90, 60, 30]), (1, 9, [150.0, 90, 30, 60])]
    sampler = MaskSampler(write(tmp_path, [*squares, *others]), NOWHERE)
    drawn = Counter[int]()
    for index in range(300):
        mask = sampler.draw(sample_generator(0, 1, index)).mask
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        drawn[int(np.sign(rows - columns)) if abs(int(rows) - int(columns)) > 9 else 0] += 1
    # Chi-square at two degrees of freedom: 9.2 is exceeded once in a hundred.
    assert sum((count - 100) ** 2 / 100 for count in drawn.values()) < 9.2
    assert set(drawn) == {-1, 0, 1}


def test_objects_of_a_category_are_drawn_equally_often(tmp_path: Path) -> None:
    objects = [(i, 1, [30.0, 30, 20.0 * i, 60]) for i in range(1, 5)]
    sampler = MaskSampler(write(tmp_path, objects), NOWHERE)
    areas = Counter(int(sampler.draw(sample_generator(0, 0, i)).mask.sum()) for i in range(200))
    assert len(areas) == 4
    # Chi-square at three degrees of freedom.
    assert sum((count - 50) ** 2 / 50 for count in areas.values()) < 11.3


def test_crowds_and_specks_are_never_outlined(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(1, 1, [10, 10, 9, 9]), (1, 1, [40, 40, 4, 90])])
    with pytest.raises(
        DataError, match=r"of 2 annotated objects 1 are smaller than 100 .*, 1 are narrower than"
    ):
        MaskSampler(dataset)


def test_the_smallest_object_that_is_allowed_is_outlined(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(1, 1, [80, 60, 20, 5])])  # 100 square pixels
    mask = MaskSampler(dataset, NOWHERE).draw(np.random.default_rng(0)).mask
    assert mask.mean() == pytest.approx(92 * 23 / 160**2, rel=0.1)


def test_an_object_far_below_the_canonical_size_is_no_positive(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(1, 1, [80, 60, 0.2, 0.2])])
    with pytest.raises(DataError, match="of 1 annotated objects 1 are too small or large"):
        ScoreSampler(dataset)


def test_positives_are_never_of_an_object_that_is_ignored(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(1, 1, [80, 60, 92, 92]), (1, 1, [250, 200, 0.2, 0.2])])
    options = ScoreSamplerOptions(positive=1.0, window=WindowOptions(flip=0))
    sampler = ScoreSampler(dataset, options)
    for index in range(12):
        patch = sampler.draw(sample_generator(0, 0, index)).patch
        np.testing.assert_allclose(white_box(patch), [50, 50, 142, 142], atol=1.2)


def test_the_defaults_are_those_of_the_papers() -> None:
    masks, scores, regions = MaskSamplerOptions(), ScoreSamplerOptions(), RegionSamplerOptions()
    assert masks.window == scores.window == WindowOptions(patch=192, window=160, canonical=92.0)
    assert (masks.label_side, masks.shift, masks.octaves) == (112, 16.0, 0.25)
    assert (scores.positive, scores.negative_shift, scores.negative_octaves) == (0.5, 32.0, 1.0)
    assert (regions.regions, regions.foreground, regions.crowd_overlap) == (64, 0.25, 0.7)


def test_a_data_set_of_crowds_cannot_be_outlined(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(1, 1, [10, 10, 90, 90])], crowd=1)
    with pytest.raises(DataError, match="of 1 annotated objects 1 are crowds"):
        MaskSampler(dataset)


def test_a_broken_image_is_named_when_it_is_drawn(tmp_path: Path) -> None:
    dataset = write(tmp_path, [(1, 1, [10, 10, 90, 90])])
    dataset.path(0).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"images/1\.png"):
        MaskSampler(dataset).draw(np.random.default_rng(0))


def test_released_labels_lie_a_pixel_lower_and_further_right(tmp_path: Path) -> None:
    """An object of 46 px is enlarged twice, so one pixel of the image is 1.4 of the label."""
    dataset = write(tmp_path, [(1, 1, [80, 60, 46, 46])])
    right, released = (
        MaskSampler(dataset, NOWHERE, LegacyOptions(shifted_windows=shifted)).draw(
            np.random.default_rng(0)
        )
        for shifted in (False, True)
    )
    moved = np.argwhere(right.mask).mean(0) - np.argwhere(released.mask).mean(0)
    assert ((moved > 0.5) & (moved < 2.5)).all()


# --- both -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MaskSampler, ScoreSampler])
@pytest.mark.parametrize("legacy", [LegacyOptions(), RELEASED])
def test_the_same_generator_gives_the_same_sample_in_any_process(
    tmp_path: Path, kind: Any, legacy: LegacyOptions
) -> None:
    objects = [(i, 1, [30.0 + i, 50, 40, 60]) for i in range(1, 4)]
    sampler = kind(write(tmp_path, objects), legacy=legacy)
    copy = pickle.loads(pickle.dumps(sampler))  # noqa: S301 - our own bytes
    copy.draw(sample_generator(9, 9, 9))
    for index in range(3):
        first, second = (s.draw(sample_generator(1, 2, index)) for s in (sampler, copy))
        for name, value in vars(first).items():
            np.testing.assert_array_equal(value, getattr(second, name))
            assert value.dtype == np.uint8
            assert value.flags.c_contiguous


def test_generators_differ_by_seed_step_and_place() -> None:
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({sample_generator(*key).integers(1 << 60) for key in keys}) == 4
