# SPDX-License-Identifier: Apache-2.0
"""Polygons, drawn again as COCO and as labelme draw them, are the masks that they were made from."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from foveate.arrays import BoolArray, Float64Array
from foveate.results.polygons import LEAST_IOU, mask_polygons
from foveate.results.window_masks import WindowMasks

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def masks_of(pixels: BoolArray) -> WindowMasks:
    """Return one mask with exactly these pixels, from logits at the size of the image."""
    size = max(pixels.shape)
    logits = np.full((1, size, size), -1, np.float32)
    logits[0, : pixels.shape[0], : pixels.shape[1]][pixels] = 1
    window = np.array([[0, 0, size, size]], np.float32)
    height, width = pixels.shape
    masks = WindowMasks(logits, window, np.array([0]), threshold=0, height=height, width=width)
    assert np.array_equal(masks[0], pixels)
    return masks


def drawn_by_coco(polygons: list[Float64Array], height: int, width: int) -> BoolArray:
    codes = coco_mask.frPyObjects([polygon.ravel() for polygon in polygons], height, width)
    return np.asarray(coco_mask.decode(coco_mask.merge(codes))).astype(bool)


def drawn_by_labelme(polygons: list[Float64Array], height: int, width: int) -> BoolArray:
    """Draw as ``labelme.utils.shape_to_mask`` does; the real one is tested with the package."""
    drawn = np.zeros((height, width), bool)
    for polygon in polygons:
        image = Image.new("1", (width, height))
        ImageDraw.Draw(image).polygon([(x, y) for x, y in polygon.tolist()], outline=1, fill=1)
        drawn |= np.asarray(image)
    return drawn


def iou(one: BoolArray, other: BoolArray) -> float:
    return float((one & other).sum() / (one | other).sum())


def overlaps(pixels: BoolArray, tolerance: float) -> list[float]:
    polygons = mask_polygons(masks_of(pixels), 0, tolerance)
    rounded = [np.round(polygon, 1) for polygon in polygons]  # what COCO and CVAT get
    return [
        iou(pixels, drawn_by_labelme(polygons, *pixels.shape)),
        iou(pixels, drawn_by_coco(polygons, *pixels.shape)),
        iou(pixels, drawn_by_coco(rounded, *pixels.shape)),
    ]


@st.composite
def noise(draw: st.DrawFn) -> BoolArray:
    """Pixels by chance: specks, holes, diagonals, at every edge of the image."""
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    pixels: BoolArray = rng.random(shape) < draw(st.sampled_from([0.1, 0.4, 0.6, 0.95]))
    pixels.flat[rng.integers(pixels.size)] = True
    return pixels


@st.composite
def blobs(draw: st.DrawFn) -> BoolArray:
    """Smooth parts with smooth holes, cut off by the edges of the image."""
    shape = draw(st.tuples(st.integers(20, 90), st.integers(20, 90)))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    smooth = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), draw(st.floats(1, 8)))
    return np.asarray(smooth >= np.quantile(smooth, draw(st.sampled_from([0.2, 0.5, 0.9]))))


@st.composite
def lines(draw: st.DrawFn) -> BoolArray:
    """Lines that are one to three pixels wide."""
    pixels = np.zeros((31, 43), np.uint8)
    ends = st.tuples(st.integers(0, 42), st.integers(0, 30))
    cv2.line(pixels, draw(ends), draw(ends), 1, draw(st.integers(1, 3)))
    return pixels.astype(bool)


@given(pixels=st.one_of(noise(), blobs(), lines()), tolerance=st.sampled_from([0.0, 1.0, 2.5, 40]))
@settings(max_examples=250)
def test_drawn_again_polygons_overlap_with_the_mask(pixels: BoolArray, tolerance: float) -> None:
    labelme, coco, rounded = overlaps(pixels, tolerance)
    assert min(labelme, coco) >= LEAST_IOU == 0.98
    assert rounded == coco
    if not tolerance:
        assert (labelme, coco) == (1, 1)


@pytest.mark.parametrize("place", [(0, 0), (0, 6), (4, 0), (4, 6), (2, 3)])
def test_a_single_pixel_is_a_square_around_it(place: tuple[int, int]) -> None:
    pixels = np.zeros((5, 7), bool)
    pixels[place] = True
    (polygon,) = mask_polygons(masks_of(pixels), 0, 5.0)
    y, x = place
    assert np.rint(polygon).tolist() == [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]]
    assert overlaps(pixels, 5.0) == [1, 1, 1]


def test_each_part_has_a_polygon_the_largest_first() -> None:
    pixels = np.zeros((20, 30), bool)
    pixels[2:5, 3:6] = pixels[7:18, 10:29] = True
    pixels[18, 29] = True  # touches a part at a corner only
    polygons = mask_polygons(masks_of(pixels), 0, 0.0)
    assert [polygon.min(0).tolist() for polygon in polygons] == [[10, 7], [3, 2], [29, 18]]


def test_specks_are_left_out_where_they_hardly_matter() -> None:
    pixels = np.zeros((60, 80), bool)
    pixels[5:45, 10:70] = True
    pixels[20:23, 30:34] = False
    pixels[50:53, 3:7] = True
    (polygon,) = mask_polygons(masks_of(pixels), 0, 1.0)
    assert np.rint(polygon).tolist() == [[10, 5], [70, 5], [70, 45], [10, 45]]
    assert len(mask_polygons(masks_of(pixels), 0, 0.0)) == 2
    pixels[5:37] = False  # now they are more than a fiftieth of the mask
    assert len(mask_polygons(masks_of(pixels), 0, 1.0)) == 2


def test_a_hole_is_joined_to_its_part_by_a_slit() -> None:
    pixels = np.zeros((20, 30), bool)
    pixels[1:19, 2:28] = True
    pixels[5:9, 6:12] = pixels[11:14, 15:21] = False
    (polygon,) = mask_polygons(masks_of(pixels), 0, 1.0)
    assert len(polygon) == 4 + 2 * 7  # a hole has its four corners, the first one twice, and a slit
    assert overlaps(pixels, 1.0) == [1, 1, 1]
    area = cv2.contourArea(np.rint(polygon).astype(np.float32))  # also by the shoelace formula
    assert area == pixels.sum()


def test_a_tolerance_leaves_out_corners_of_large_masks() -> None:
    y, x = np.mgrid[:200, :240]
    disc = np.hypot(x - 121.3, y - 97.8) < 80
    counts = [len(mask_polygons(masks_of(disc), 0, tolerance)[0]) for tolerance in (0, 1, 3)]
    assert counts[0] > 300
    assert counts[1] < 60
    assert counts[2] < counts[1]
    (polygon,) = mask_polygons(masks_of(disc), 0, 3.0)
    distances = [abs(math.hypot(px - 121.8, py - 98.3) - 80) for px, py in polygon.tolist()]
    assert max(distances) < 1.5


def test_a_mask_without_a_pixel_has_no_polygon() -> None:
    logits, window = np.full((1, 4, 4), -1, np.float32), np.array([[0, 0, 4, 4]], np.float32)
    masks = WindowMasks(logits, window, np.array([0]), threshold=0, height=4, width=6)
    assert mask_polygons(masks, 0, 1.0) == []
