# SPDX-License-Identifier: Apache-2.0
"""The committed lists of the recipe `mini`."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from tests.samples.paths import ROOT

from compose import CLASS_NAMES, Entry, FixedSet, Sources, read_list, validation_options

RECIPE = ROOT / "recipes" / "mini"
SOURCES = Sources(cutouts=RECIPE / "cutouts.csv", backgrounds=RECIPE / "backgrounds.csv")


@pytest.fixture(scope="module")
def cutouts() -> list[Entry]:
    return read_list(SOURCES.cutouts)


@pytest.fixture(scope="module")
def backgrounds() -> list[Entry]:
    return read_list(SOURCES.backgrounds)


def families(entries: list[Entry], split: str) -> set[str]:
    return {entry.family for entry in entries if entry.split == split}


def test_no_family_is_in_both_splits(cutouts: list[Entry], backgrounds: list[Entry]) -> None:
    for entries in (cutouts, backgrounds):
        assert families(entries, "train").isdisjoint(families(entries, "validation"))
        assert {entry.split for entry in entries} == {"train", "validation"}
        assert all(entry.family for entry in entries)


def test_every_class_can_be_validated(cutouts: list[Entry]) -> None:
    held = [entry for entry in cutouts if entry.split == "validation"]
    counts = Counter(entry.class_name for entry in held)
    assert set(counts) == {entry.class_name for entry in cutouts}
    assert len(counts) >= 8
    assert min(counts.values()) >= 5
    for name in counts:
        assert len({entry.family for entry in held if entry.class_name == name}) >= 3


def test_about_a_quarter_of_families_is_for_validation(
    cutouts: list[Entry], backgrounds: list[Entry]
) -> None:
    for entries in (cutouts, backgrounds):
        parts = [len(families(entries, split)) for split in ("train", "validation")]
        assert 0.2 <= parts[1] / sum(parts) <= 0.32


def test_no_file_is_listed_twice(cutouts: list[Entry], backgrounds: list[Entry]) -> None:
    paths = [(entry.package, entry.path) for entry in cutouts + backgrounds]
    assert len(set(paths)) == len(paths)


def test_no_demo_photograph_is_trained_on(backgrounds: list[Entry]) -> None:
    demo = {"astronaut", "cat", "chelsea", "coffee", "flower", "panda"}
    assert demo.isdisjoint(Path(entry.path).stem for entry in backgrounds)


def test_cutouts_with_a_name_among_the_new_classes_keep_their_family_and_split(
    cutouts: list[Entry],
) -> None:
    known = {(one.package, one.path): (one.family, one.split) for one in cutouts}
    named = read_list(RECIPE / "named_cutouts.csv")
    for one in named:
        assert known[one.package, one.path] == (one.family, one.split)
        assert one.class_name in CLASS_NAMES
    assert len({(one.package, one.path) for one in named}) == len(named)


def test_every_package_is_pinned(cutouts: list[Entry], backgrounds: list[Entry]) -> None:
    with (RECIPE / "packages.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    listed = {entry.package for entry in cutouts + backgrounds}
    assert {row["package"] for row in rows} == listed | {"sweethome3d-furniture"}  # is rendered
    assert all(len(row["sha256"]) == 64 and row["version"] and row["licence"] for row in rows)


def test_the_validation_set_is_fixed_with_these_lists() -> None:
    fixed = FixedSet.read(RECIPE / "validation.json")
    fixed.check(SOURCES)
    assert (fixed.images, fixed.split) == (500, "validation")
    assert fixed.options == validation_options()
    assert fixed.options.sizes == ((640, 480),)
    assert fixed.options.objects.count == (2, 6)
    assert fixed.options.objects.larger_side == (45.0, 340.0)
    assert fixed.options.objects.min_visible_area == 150
