# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveate.errors import InputError
from foveate.results.detections import Detections, Proposals
from foveate.results.overlay import COLORS, LabelPainter, _is_light, color
from foveate.results.run_masks import RunMasks, column_runs
from foveate.results.window_masks import WindowMasks


def one_disc(height: int, width: int, geometry: tuple[float, ...]) -> Detections:
    rows, columns = np.mgrid[:64, :64]
    logits = (24 - np.hypot(rows - 31.5, columns - 31.5)).astype(np.float32)[None]
    x0, y0, w, h = geometry
    return Detections(
        boxes=np.array([[x0, y0, x0 + w, y0 + h]], np.float32),
        scores=np.array([0.5], np.float32),
        labels=np.array([0]),
        class_names=("disc",),
        masks=WindowMasks(
            logits,
            np.array([geometry], np.float32),
            np.array([0]),
            threshold=0,
            height=height,
            width=width,
        ),
        proposals=np.array([0]),
    )


def test_only_the_object_and_its_label_are_painted() -> None:
    image = np.full((400, 600, 3), 90, np.uint8)
    detections = one_disc(400, 600, (200, 150, 160, 160))
    drawn = detections.draw(image)
    assert (image == 90).all()
    inside = detections.masks[0] & ~cv2.dilate(
        1 - detections.masks[0].astype(np.uint8), np.ones((15, 15))
    ).astype(bool)
    filled = drawn[inside]
    assert (filled == filled[0]).all()
    assert not np.array_equal(filled[0], (90, 90, 90))
    far = np.ones((400, 600), bool)
    far[110:320, 190:370] = False
    assert (drawn[far] == 90).all()


def proposals_of(*masks: np.ndarray) -> Proposals:
    runs = [column_runs(mask.astype(np.uint8)) for mask in masks]
    height, width = masks[0].shape
    found = RunMasks(runs, height=height, width=width)
    scores = np.linspace(0.9, 0.5, len(masks), dtype=np.float32)
    return Proposals(boxes=found.boxes(), scores=scores, masks=found)


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((400, 300), bool)
    mask[top:bottom, left:right] = True
    return mask


def tinted(pixels: np.ndarray, index: int) -> np.ndarray:
    return np.round(pixels * 0.58 + np.array(color(index)) * 0.42)


def test_every_pixel_of_a_tall_object_is_tinted_in_its_place() -> None:
    image = np.random.default_rng(0).integers(0, 256, (400, 300, 3), np.uint8)
    drawn = proposals_of(rectangle(40, 60, 390, 250)).draw(image)
    inside = slice(60, 380), slice(70, 240)
    np.testing.assert_array_equal(drawn[inside], tinted(image[inside], 0))


def test_a_small_object_is_drawn_over_a_large_one() -> None:
    image = np.full((400, 300, 3), 90, np.uint8)
    small, large = rectangle(200, 100, 240, 140), rectangle(40, 60, 390, 250)
    drawn = proposals_of(small, large).draw(image)
    assert drawn[220, 120].tolist() == tinted(tinted(image[0, 0], 1), 0).tolist()


def test_outlines_lie_on_the_border_of_an_object_and_of_its_hole() -> None:
    mask = rectangle(100, 60, 300, 260) & ~rectangle(150, 120, 250, 200)
    drawn = proposals_of(mask).draw(np.zeros((400, 300, 3), np.uint8))
    bright = drawn[200].sum(1).astype(int)  # a row through the hole
    assert np.flatnonzero(bright > 1.5 * bright[90]).tolist() == [60, 119, 200, 259]


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (40, 40), (2000, 3000)])
def test_any_size_can_be_drawn_on(size: tuple[int, int]) -> None:
    height, width = size
    geometry = (-width / 4, -height / 4, 1.5 * width, 1.5 * height)
    drawn = one_disc(*size, geometry).draw(np.zeros((*size, 3), np.uint8))
    assert drawn.shape == (*size, 3)
    assert drawn.any() or size == (1, 1)


def test_a_file_can_be_drawn_on(tmp_path: Path) -> None:
    path = tmp_path / "gray.png"
    cv2.imwrite(str(path), np.full((40, 60), 9, np.uint8))
    assert one_disc(40, 60, (5, 5, 20, 20)).draw(path).shape == (40, 60, 3)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"has 50 x 40 pixels, the objects belong to an image of 60 x 40"
    ):
        one_disc(40, 60, (5, 5, 20, 20)).draw(np.zeros((40, 50, 3), np.uint8))


def test_labels_stay_inside_and_apart() -> None:
    painter = LabelPainter(np.zeros((480, 640, 3), np.uint8))
    boxes = [(-20, -10, 50, 40), (600, 450, 700, 500), (300, 200, 340, 240), (302, 200, 342, 240),
             (304, 202, 344, 242), (300, 0, 340, 30), (300, 600, 340, 640)]  # fmt: skip
    for box in boxes:
        painter.paint("vegetable 0.97", box, (200, 30, 60))
    assert len(painter.placed) == len(boxes)
    for place in painter.placed:
        assert 0 <= place.left < place.right <= 640
        assert 0 <= place.top < place.bottom <= 480
    for one, other in itertools.combinations(painter.placed, 2):
        assert one.shared(other) == 0


def test_labels_take_the_first_free_place_above_inside_and_below_their_box() -> None:
    painter = LabelPainter(np.zeros((480, 640, 3), np.uint8))
    x0, y0, x1, y1 = box = (100, 100, 400, 300)
    for _ in range(27):
        painter.paint("cat", box, (200, 30, 60))
    left, top, right, bottom = painter.placed[0]
    wide, high = right - left, bottom - top
    tops = [y0 - high, y0, y1, y1 - high, *(y0 + step * high for step in range(1, 6))]
    assert [(place.left, place.top) for place in painter.placed] == [
        (start, top) for top in tops for start in (x0, x1 - wide, (x0 + x1 - wide) // 2)
    ]


def test_text_keeps_a_margin_from_the_edges_of_its_label() -> None:
    painter = LabelPainter(canvas := np.zeros((480, 640, 3), np.uint8))
    painter.paint("HHH", (100, 100, 300, 300), (200, 30, 60))
    left, top, right, bottom = painter.placed[0]
    ink = (canvas[top:bottom, left:right] == 255).all(2)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    assert rows[0] >= 2
    assert columns[0] >= 2
    assert rows[-1] < bottom - top - 2
    assert columns[-1] < right - left - 2
    assert np.flatnonzero(canvas.any((1, 2))).tolist() == list(range(top, bottom))


@pytest.mark.parametrize("size", [(20, 20), (12, 600)])
def test_a_label_larger_than_the_image_is_left_out(size: tuple[int, int]) -> None:
    canvas = np.zeros((*size, 3), np.uint8)
    LabelPainter(canvas).paint("vegetable 0.97", (0, 0, 10, 10), (200, 30, 60))
    assert not canvas.any()


def test_colors_repeat_after_the_last_one() -> None:
    assert color(0) == (255, 115, 94)  # a warm red first
    assert len({color(index) for index in range(COLORS)}) == COLORS
    assert [color(COLORS + index) for index in range(COLORS)] == [*map(color, range(COLORS))]


def test_colors_are_far_apart() -> None:
    tones = np.array([color(index) for index in range(12)], np.uint8)
    lab = cv2.cvtColor(tones[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    for one, other in itertools.combinations(range(12), 2):
        assert np.linalg.norm(lab[one] - lab[other]) > 12
    for one in range(11):
        assert np.linalg.norm(lab[one] - lab[one + 1]) > 40


def test_text_is_black_on_light_and_white_on_dark() -> None:
    assert _is_light((255, 230, 0))
    assert _is_light((145, 145, 145))
    assert not _is_light((135, 135, 135))
    assert not _is_light((40, 40, 200))
