# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from foveate.kernels.mask_boxes.reference import tight_box
from foveate.results.run_masks import column_runs
from foveate.results.window_mask import encode_runs
from foveate.results.window_masks import WindowMasks

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def masks() -> WindowMasks:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 16, 16)).astype(np.float32).cumsum(1).astype(np.float32)
    geometry = np.array([[-5, 3, 30, 28], [20.4, 10, 60, 60], [4, 4, 10, 9]], np.float32)
    rows = np.array([2, 0, 1, 0])
    return WindowMasks(logits, geometry, rows, threshold=0.2, height=HEIGHT, width=WIDTH)


def test_all_ways_to_the_pixels_agree(masks: WindowMasks) -> None:
    stack = np.asarray(masks)
    assert stack.shape == masks.shape == (4, HEIGHT, WIDTH)
    assert stack.dtype == bool
    for index, mask in enumerate(masks):
        assert np.array_equal(mask, stack[index])
        crop, top, left = masks.crop(index)
        assert np.array_equal(mask[top : top + crop.shape[0], left : left + crop.shape[1]], crop)
        assert mask.sum() == crop.sum()
    assert masks.areas().tolist() == stack.sum(axis=(1, 2)).tolist()
    assert np.array_equal(masks[1], masks[3])
    for box, mask in zip(masks.boxes(), stack, strict=True):
        assert tuple(box) == tight_box(mask)


def test_masks_can_be_chosen(masks: WindowMasks) -> None:
    stack = np.asarray(masks)
    assert np.array_equal(np.asarray(masks[1:3]), stack[1:3])
    assert np.array_equal(np.asarray(masks[np.array([3, 0])]), stack[[3, 0]])
    chosen = np.array([True, False, False, True])
    assert np.array_equal(np.asarray(masks[chosen]), stack[chosen])
    assert np.array_equal(masks[-1], stack[-1])
    with pytest.raises(IndexError):
        masks[4]


def test_masks_convert_like_arrays(masks: WindowMasks) -> None:
    assert np.asarray(masks, np.uint8).dtype == np.uint8
    with pytest.raises(ValueError, match="cannot be shared"):
        np.array(masks, copy=False)
    assert repr(masks) == "Masks(shape=(4, 40, 56))"


def test_rle_decodes_to_the_masks(masks: WindowMasks) -> None:
    codes = masks.rle()
    assert all(code["size"] == [HEIGHT, WIDTH] for code in codes)
    assert all(isinstance(code["counts"], str) for code in codes)
    decoded = np.stack([coco_mask.decode(code) for code in codes]).astype(bool)
    assert np.array_equal(decoded, np.asarray(masks))


@given(
    seed=st.integers(0, 999),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    place=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    margin=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    share=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)
@settings(max_examples=150)
def test_code_of_runs_is_byte_equal_to_that_of_the_pixels(
    seed: int, size: tuple[int, int], place: tuple[int, int], margin: tuple[int, int], share: float
) -> None:
    crop = np.random.default_rng(seed).random(size) < share
    whole = np.pad(crop, [(place[0], margin[0]), (place[1], margin[1])])
    expected = coco_mask.encode(np.asfortranarray(whole.astype(np.uint8)))
    edges = np.diff(np.pad(whole, [(1, 1), (0, 0)]).astype(np.int8), axis=0).T
    (columns, starts), (_, ends) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    found = encode_runs(columns, starts, ends, *whole.shape)
    assert found["counts"] == expected["counts"].decode()
    assert found["size"] == expected["size"]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_runs_are_painted_on_the_pixels_that_they_are_made_of(share: float) -> None:
    pixels = np.zeros((9, 14), bool)
    pixels[1:7, 3:12] = np.random.default_rng(1).random((6, 9)) < share
    runs, painted = column_runs(pixels.astype(np.uint8)), np.zeros(pixels.shape, bool)
    runs.paint(painted)
    assert np.array_equal(painted, pixels)
    crop, top, left = runs.mask()
    assert np.array_equal(crop, pixels[top : top + len(crop), left : left + crop.shape[1]])
    assert crop.sum() == runs.area() == pixels.sum()


def test_no_run_is_an_empty_mask() -> None:
    none = np.zeros(0, np.int64)
    code = encode_runs(none, none, none, 7, 9)
    assert coco_mask.area(code) == 0
    assert coco_mask.decode(code).shape == (7, 9)
