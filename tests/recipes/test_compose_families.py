# SPDX-License-Identifier: Apache-2.0
"""Families and splits of cut-outs and backgrounds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from compose import Entry, assign_backgrounds, assign_cutouts
from compose.families import (
    TRAINING,
    VALIDATION,
    group,
    hash_image,
    is_alike,
    name_stem,
    split_families,
)
from foveate.errors import DataError


def draw_noise(number: int, side: int = 64) -> NDArray[np.uint8]:
    """(side, side, 4) uint8: smooth noise inside a disc."""
    noise = np.random.default_rng(number).uniform(0, 255, (12, 12, 3)).astype(np.float32)
    color = cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = 255 * (np.hypot(x, y) < side / 2 - 2)
    return np.dstack([color, alpha]).astype(np.uint8)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lion.png", "a/lion-2.png"),
        ("dumper.png", "dumper_mirror.png"),
        ("donkey.png", "donkey_eating.png"),
        ("scissors_small_open.png", "scissors_small_closed.png"),
        ("Strawberry2.png", "strawberry.png"),
        ("leuvenA.jpg", "leuvenB.jpg"),
        ("garlic.png", "garlics.png"),
    ],
)
def test_names_of_variants_have_one_stem(one: str, other: str) -> None:
    assert name_stem(one) == name_stem(other)


@pytest.mark.parametrize(
    ("one", "other"), [("cow.png", "crow.png"), ("polar-bear.png", "bear.png"), ("1.png", "2.png")]
)
def test_names_of_different_things_have_two_stems(one: str, other: str) -> None:
    assert name_stem(one) != name_stem(other)


def test_a_mirrored_smaller_and_brighter_copy_is_alike() -> None:
    image = draw_noise(1)
    copy = cv2.resize(np.ascontiguousarray(image[:, ::-1]), (48, 48))
    copy[..., :3] = (0.8 * copy[..., :3] + 40).astype(np.uint8)
    assert is_alike(hash_image(image), hash_image(np.asarray(copy, dtype=np.uint8)))


def test_other_images_are_not_alike() -> None:
    hashes = [hash_image(draw_noise(number)) for number in range(12)]
    pairs = [(a, b) for a in range(12) for b in range(a)]
    assert not any(is_alike(hashes[a], hashes[b]) for a, b in pairs)


def test_a_family_is_what_chains_of_likeness_connect() -> None:
    hashes = [hash_image(draw_noise(number)) for number in (1, 2, 3, 2)]
    assert group(["d", "c", "b", "a"], ["x", "x", "y", "z"], hashes) == ["a", "a", "b", "a"]


def write(file: Path, image: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image)


def test_mirrored_and_numbered_cutouts_land_in_one_family_and_split(tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path / f"thing{'abcdefgh'[number]}word.png", draw_noise(number))
    write(tmp_path / "flipped.png", np.ascontiguousarray(draw_noise(0)[:, ::-1]))
    write(tmp_path / "thingbword-2.png", draw_noise(50))
    entries = [Entry(path=file.name, class_name="thing") for file in sorted(tmp_path.glob("*.png"))]
    filled = {entry.path: entry for entry in assign_cutouts(entries, tmp_path)}
    assert len({entry.family for entry in filled.values()}) == 8
    for one, other in (("flipped.png", "thingaword.png"), ("thingbword.png", "thingbword-2.png")):
        assert filled[one].family == filled[other].family
        assert filled[one].split == filled[other].split
    assert {entry.split for entry in filled.values()} == {TRAINING, VALIDATION}


def test_near_identical_backgrounds_land_in_one_family(tmp_path: Path) -> None:
    for number in range(5):
        image = cv2.resize(draw_noise(number, 96)[..., :3], (128, 96))
        write(tmp_path / f"{'vwxyz'[number]}ood.jpg", np.asarray(image, dtype=np.uint8))
    copy = cv2.resize(draw_noise(2, 96)[..., :3], (256, 192))
    write(tmp_path / "meadow.png", np.asarray(copy, dtype=np.uint8))
    entries = [Entry(path=file.name) for file in sorted(tmp_path.iterdir())]
    families = {e.path: e.family for e in assign_backgrounds(entries, tmp_path)}
    assert families["meadow.png"] == families["xood.jpg"]
    assert len(set(families.values())) == 5


def test_families_are_dealt_out_whole_and_in_the_wanted_share() -> None:
    classes = ["a"] * 40 + ["b"] * 12
    families = [f"a{number // 2}" for number in range(40)] + [f"b{n}" for n in range(12)]
    splits = split_families(classes, families, min_members=5, min_families=3)
    by_family = dict(zip(families, splits, strict=True))
    assert [by_family[family] for family in families] == splits
    held = [split == VALIDATION for split in splits]
    assert sum(held[:40]) == 10
    assert sum(held[40:]) == 5


def test_a_family_that_is_most_of_its_class_stays_in_training() -> None:
    families = ["big"] * 6 + ["one", "two", "three", "four"]
    splits = split_families(["a"] * 10, families, min_members=2)
    assert splits[:6] == [TRAINING] * 6


def test_a_class_too_small_to_split_is_an_error() -> None:
    with pytest.raises(
        DataError, match="class 'a' has 1 families of similar images, too few.*merge it"
    ):
        split_families(["a", "a"], ["x", "x"])
