# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveate.errors import InputError
from foveate.results.detections import Detections
from foveate.results.overlay import LabelPainter, _is_light, color
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
             (304, 202, 344, 242), (300, 0, 340, 30)]  # fmt: skip
    for box in boxes:
        painter.paint("vegetable 0.97", box, (200, 30, 60))
    assert len(painter.placed) == len(boxes)
    for place in painter.placed:
        assert 0 <= place.left < place.right <= 640
        assert 0 <= place.top < place.bottom <= 480
    for one, other in itertools.combinations(painter.placed, 2):
        assert one.shared(other) == 0


def test_a_label_larger_than_the_image_is_left_out() -> None:
    canvas = np.zeros((20, 20, 3), np.uint8)
    LabelPainter(canvas).paint("vegetable 0.97", (0, 0, 10, 10), (200, 30, 60))
    assert not canvas.any()


def test_colors_are_far_apart() -> None:
    tones = np.array([color(index) for index in range(12)], np.uint8)
    lab = cv2.cvtColor(tones[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    for one, other in itertools.combinations(range(12), 2):
        assert np.linalg.norm(lab[one] - lab[other]) > 12
    for one in range(11):
        assert np.linalg.norm(lab[one] - lab[one + 1]) > 40


def test_text_is_black_on_light_and_white_on_dark() -> None:
    assert _is_light((255, 230, 0))
    assert not _is_light((40, 40, 200))
