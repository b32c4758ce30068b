# SPDX-License-Identifier: Apache-2.0
"""Reading COCO annotations: every form of mask, every kind of bad record, any directory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from tests.samples.datasets import (
    HEIGHT,
    SQUARE,
    WIDTH,
    annotation,
    compressed,
    content,
    read,
    run_lengths,
    square_mask,
    write,
)

from foveate.datasets import CocoDataset, find_source
from foveate.datasets.segmentations import check_code
from foveate.errors import DataError
from foveate.evaluation import GroundTruth

# pycocotools decodes into an array type of its own, of which NumPy 2 disapproves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# --- what is read ---------------------------------------------------------------------------


@pytest.mark.parametrize("segmentation", [SQUARE, compressed(), run_lengths()])
def test_every_form_of_mask_decodes_to_the_same_pixels(segmentation: Any) -> None:
    table = read(annotation(segmentation=segmentation))
    np.testing.assert_array_equal(table.mask(0), square_mask())


def test_polygons_of_one_object_are_joined() -> None:
    two = [[0, 0, 4, 0, 4, 4, 0, 4], [10, 10, 14, 10, 14, 14, 10, 14]]
    assert read(annotation(segmentation=two)).mask(0).sum() == 32


def test_areas_and_extents_are_those_of_each_objects_own_polygons() -> None:
    triangle, two = [[30, 20, 34, 20, 30, 26]], [[0, 0, 4, 0, 4, 4, 0, 4], [10, 9, 12, 9, 12, 4]]
    shapes = read(
        annotation(segmentation=triangle),
        annotation(id=2, segmentation=compressed()),
        annotation(id=3, segmentation=two),
    ).segmentations
    np.testing.assert_allclose(shapes.areas(), [12, 100, 16 + 5])
    assert shapes.extents().tolist() == [[30, 20, 34, 26], [0, 0, 0, 0], [0, 0, 12, 9]]


def test_only_codes_have_no_polygons() -> None:
    table = read(annotation(), annotation(id=2, segmentation=compressed()))
    np.testing.assert_array_equal(table.polygons(0)[0], np.reshape(SQUARE, (4, 2)))
    assert table.polygons(1) == []


def test_labels_follow_the_ids_of_categories_over_their_gaps() -> None:
    table = read(annotation(category_id=7), annotation(id=2, category_id=3))
    assert table.categories == ((3, "cat"), (7, "dog"))
    assert table.labels.tolist() == [1, 0]


def test_objects_are_ordered_by_image() -> None:
    table = read(annotation(id=5, image_id=2), annotation(id=6), annotation(id=7, image_id=2))
    assert table.ids.tolist() == [6, 5, 7]
    assert table.starts.tolist() == [0, 1, 3]


@pytest.mark.parametrize("segmentation", [SQUARE, compressed()])
def test_a_missing_box_and_area_are_the_masks(segmentation: Any) -> None:
    table = read(annotation(bbox=None, area=None, segmentation=segmentation))
    assert table.boxes[0].tolist() == [10, 5, 10, 10]
    assert table.areas[0] == 100


def test_a_table_survives_pickling() -> None:
    table = pickle.loads(pickle.dumps(read(annotation())))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(table.mask(0), square_mask())


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 6))
def test_a_code_of_pycocotools_passes_at_its_own_size_only(bits: list[bool], rows: int) -> None:
    mask = np.array(bits[: len(bits) // rows * rows] or [True] * rows, np.uint8).reshape(rows, -1)
    code = coco_mask.encode(np.asfortranarray(mask))["counts"]
    check_code(code, mask.size)
    with pytest.raises(ValueError, match=f"covers {mask.size} pixels, not {mask.size + 1}"):
        check_code(code, mask.size + 1)


@settings(max_examples=150)
@given(
    st.lists(st.booleans(), min_size=24, max_size=24),
    st.integers(0, 30),
    st.none() | st.integers(0, 255),
)
def test_a_damaged_code_never_decodes_to_chance(
    bits: list[bool], place: int, byte: int | None
) -> None:
    """Either it is refused, or pycocotools decodes it to as many pixels as its runs say."""
    mask = np.asfortranarray(np.array(bits, np.uint8).reshape(4, 6))
    code = coco_mask.encode(mask)["counts"]
    if byte is not None:
        place %= len(code)
        code = code[:place] + bytes([byte]) + code[place + 1 :]
    try:
        check_code(code, 24)
    except ValueError:
        return
    decoded = coco_mask.decode({"size": [4, 6], "counts": code})
    assert coco_mask.area({"size": [4, 6], "counts": code}) == decoded.sum()


# --- where it is read -----------------------------------------------------------------------


def test_images_lie_beside_the_annotations(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content(annotation())))
    assert dataset.image(1).max() == 80
    assert dataset.class_names == ("cat", "dog")
    assert dataset.instances(0)[0].box.tolist() == [10, 5, 20, 15]
    assert dataset.instances(1) == []


def test_images_and_annotations_lie_in_any_two_places_as_coco_has_them(tmp_path: Path) -> None:
    write(tmp_path / "coco", content(annotation()), images="train2017")
    file = tmp_path / "instances_train2017.json"
    (tmp_path / "coco" / "annotations.json").rename(file)
    dataset = CocoDataset(find_source(tmp_path / "coco" / "train2017", file))
    assert dataset.image(0).max() == 40
    truth = GroundTruth.open(tmp_path / "coco" / "train2017", annotations=file)
    assert truth.images[0].path == dataset.path(0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotations_are_of_the_upright_image(orientation: int, tmp_path: Path) -> None:
    """The same upright image, stored in each of the eight ways."""
    upright = Image.fromarray(
        np.arange(HEIGHT * WIDTH * 3).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)
    )
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    dataset = CocoDataset(write(tmp_path, content(annotation())))
    stored.save(dataset.path(0), exif=exif)
    np.testing.assert_array_equal(dataset.image(0), np.asarray(upright))


def test_a_size_that_exif_swaps_is_an_error_that_says_so(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content(annotation())))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(dataset.path(0), exif=exif)
    with pytest.raises(DataError, match=r"30 x 40 pixels, its .* for 40 x 30: .*1\.png: .*EXIF"):
        dataset.image(0)


def test_an_image_that_is_gone_changes_the_digest(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content(annotation())))
    gone = dataset.of_images(np.arange(2))
    gone.path(0).unlink()
    assert len({dataset.of_images(np.arange(2)).digest, gone.digest}) == 1
    write(tmp_path, content(annotation()))
    assert dataset.digest != gone.digest


def test_crowds_are_in_the_table_but_are_no_instances(tmp_path: Path) -> None:
    dataset = CocoDataset(write(tmp_path, content(annotation(iscrowd=1))))
    assert dataset.annotations.crowds.tolist() == [True]
    assert dataset.instances(0) == []
