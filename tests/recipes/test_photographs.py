# SPDX-License-Identifier: Apache-2.0
"""Objects of photographs, pasted on others: masks, occlusion, crowds, classes, determinism."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.samples.outlined_photographs import CATEGORIES, write_photographs

from compose import CLASS_NAMES, PasteOptions, Photographs
from compose.dataset import annotate
from compose.options import FinishOptions, ObjectOptions
from foveate.datasets import CocoDataset, find_parts
from foveate.errors import DataError

# pycocotools' own arrays lack the argument `copy` of NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Nothing changes colors, so that the image itself tells where the objects are.
PLAIN = PasteOptions(
    share=1.0,
    objects=ObjectOptions(
        count=(1, 1), larger_side=(30.0, 70.0), flip=0.0, min_visible_share=0.4, feather=0.0
    ),
    smallest_side=20,
    finish=FinishOptions(),
)
CROWDED = replace(PLAIN, objects=replace(PLAIN.objects, count=(10, 10), min_visible_area=50))
COLORS = {
    CLASS_NAMES.index(name) + 1: CATEGORIES[number][2]
    for name, number in (("person", 1), ("animal", 17), ("plant", 64))
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def photographs(folder: Path, options: PasteOptions = PLAIN, seed: int = 0) -> Photographs:
    return Photographs.of(CocoDataset(find_parts(folder)["train"]), options=options, seed=seed)


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Return the folder, with annotations that were changed in place."""
    file = folder / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_pasted_mask_covers_the_pixels_that_show_the_object(folder: Path) -> None:
    pasted = 0
    scenes, plain = photographs(folder), photographs(folder, replace(PLAIN, share=0.0))
    for index in range(24):
        scene = scenes.scene(index)
        own = len(scenes.dataset.rows(index % 3))
        for placed in scene.objects[own:]:
            pasted += 1
            color = np.array(COLORS[placed.category_id])
            distance = np.abs(scene.image[placed.mask] - color.astype(int)).max(axis=1)
            assert (distance < 120).all()  # halfway to gray or to another color at most
            assert np.median(distance) <= 2
            changed = np.abs(scene.image.astype(int) - plain.scene(index).image)
            assert (changed[~placed.mask] < 120).all()
    assert pasted > 10


def test_what_a_pasted_object_hides_leaves_the_masks_of_others(folder: Path) -> None:
    hidden = 0
    scenes = photographs(folder, CROWDED)
    for index in range(24):
        scene = scenes.scene(index)
        assert np.stack([one.mask for one in scene.objects]).sum(axis=0).max() == 1
        for placed, row in zip(scene.objects, scenes.dataset.rows(index % 3), strict=False):
            whole = scenes.dataset.annotations.mask(int(row))
            assert not (placed.mask & (whole == 0)).any()
            hidden += int(placed.mask.sum() < whole.sum())
    assert hidden > 10


def test_boxes_and_areas_are_those_of_the_visible_masks(folder: Path) -> None:
    for index in range(12):
        scene = photographs(folder, CROWDED).scene(index)
        _, annotations = annotate(scene, image_id=1, file_name="a.jpg")
        for placed, annotation in zip(scene.objects, annotations, strict=True):
            rows, columns = np.nonzero(placed.mask)
            left, top = columns.min(), rows.min()
            size = [columns.max() + 1 - left, rows.max() + 1 - top]
            assert annotation["bbox"] == [left, top, *size]
            assert annotation["area"] == len(rows)


def test_an_object_of_which_several_others_leave_too_little_becomes_a_crowd(folder: Path) -> None:
    shares = {False: [1.0], True: [0.0]}
    scenes = photographs(folder, CROWDED)
    for index in range(0, 120, 3):  # the image with one person
        placed = scenes.scene(index).objects[0]
        whole = scenes.dataset.annotations.mask(0).sum()
        shares[placed.crowd].append(placed.mask.sum() / whole)
    assert len(shares[True]) > 1
    assert max(shares[True]) < 0.4 <= min(shares[False])


def test_a_crowd_stays_one_and_is_never_pasted(folder: Path) -> None:
    scenes = photographs(folder)
    crowd = np.flatnonzero(scenes.dataset.annotations.crowds)
    assert not np.isin(np.concatenate(scenes.pasted), crowd).any()
    scene = scenes.scene(2)
    assert [one.crowd for one in scene.objects[:2]] == [True, False]
    _, annotations = annotate(scene, image_id=1, file_name="a.jpg")
    assert [one["iscrowd"] for one in annotations[:2]] == [1, 0]


def test_a_seed_and_an_index_determine_an_image(folder: Path) -> None:
    options = PasteOptions(smallest_side=20)
    first, again = (photographs(folder, options, seed=4).scene(7) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert len(first.objects) == len(again.objects)
    for one, other in zip(first.objects, again.objects, strict=True):
        assert (one.entry, one.category_id, one.crowd) == (
            other.entry,
            other.category_id,
            other.crowd,
        )
        assert np.array_equal(one.mask, other.mask)


@pytest.mark.parametrize(("seed", "index"), [(5, 7), (4, 10)])
def test_another_seed_or_index_gives_another_image_of_the_same_photograph(
    folder: Path, seed: int, index: int
) -> None:
    options = PasteOptions(smallest_side=20)
    first = photographs(folder, options, seed=4).scene(7)
    other = photographs(folder, options, seed=seed).scene(index)
    assert first.background == other.background
    assert not np.array_equal(first.image, other.image)


def test_classes_are_supercategories_and_plants(folder: Path) -> None:
    scenes = photographs(folder, replace(PLAIN, share=0.0))
    found = [[one.category_id for one in scenes.scene(index).objects] for index in range(3)]
    names = [[scenes.class_names[number - 1] for number in image] for image in found]
    assert names == [["person"], ["plant", "person"], ["person", "animal"]]


def test_photographs_without_annotations_are_left_out(folder: Path) -> None:
    scenes = photographs(folder)
    assert len(scenes.dataset) == 3
    shown = {scenes.scene(index).background.path for index in range(6)}
    assert shown == {"person.png", "plant.png", "crowd.png"}


def test_a_small_object_and_one_that_the_edge_cuts_are_not_cut_out(tmp_path: Path) -> None:
    def move(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"][0] = 0

    folder = edited(write_photographs(tmp_path), move)
    scenes = photographs(folder, replace(PLAIN, smallest_side=45))
    rows = np.concatenate(scenes.pasted)
    assert sorted(scenes.dataset.annotations.ids[rows].tolist()) == [101, 102, 104]
    scenes = photographs(folder, replace(PLAIN, smallest_side=50))
    assert len(scenes.pasted) == 0
    assert len(scenes.scene(0).objects) == 1


def test_an_unknown_supercategory_is_named(tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["categories"][1]["supercategory"] = "toys"

    folder = edited(write_photographs(tmp_path), rename)
    with pytest.raises(
        DataError,
        match="the category 'cat' has the supercategory 'toys', expected one of accessory, "
        ".*instances_train2017.json: use annotations in the form of COCO 2017",
    ):
        photographs(folder)


def test_photographs_without_an_object_are_an_error(tmp_path: Path) -> None:
    def keep_the_crowd(content: dict[str, Any]) -> None:
        content["annotations"] = [one for one in content["annotations"] if one["iscrowd"]]

    folder = edited(write_photographs(tmp_path), keep_the_crowd)
    with pytest.raises(DataError, match=r"no photograph has an object, crowds aside.*outline some"):
        photographs(folder)
