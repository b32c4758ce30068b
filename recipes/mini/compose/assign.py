# SPDX-License-Identifier: Apache-2.0
"""Give each entry of a list its family and its split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compose.families import group, hash_image, name_stem
from compose.library import load_background, load_cutout
from compose.lists import Entry
from compose.split import split_families

_SALT = "mini"  # with which the recipe's families are in both splits of every class


def assign_cutouts(
    entries: Iterable[Entry],
    root: Path,
    *,
    share: float = 0.25,
    min_members: int = 0,
    min_families: int = 1,
) -> list[Entry]:
    """Assign families and splits to cut-outs: equal stems in a class, or similar looks.

    Args:
        entries: With their classes; families and splits that they have are ignored.
        root: Root of their paths.
        share: See `split_families`, as for the two others.
        min_members: Least number of members of each class for validation.
        min_families: Least number of families of each class for validation.

    Returns:
        The entries, sorted by class, package and path.
    """
    entries = _sorted(entries)
    families = group(
        [f"{entry.class_name}/{name_stem(entry.path)}" for entry in entries],
        [(entry.class_name, name_stem(entry.path)) for entry in entries],
        _hashes(entries, lambda entry: load_cutout(entry, root).image),
    )
    splits = split_families(
        [entry.class_name for entry in entries],
        families,
        share=share,
        min_members=min_members,
        min_families=min_families,
        salt=_SALT,
    )
    return list(_filled(entries, families, splits))


def assign_backgrounds(entries: Iterable[Entry], root: Path, *, share: float = 0.25) -> list[Entry]:
    """Assign families and splits to backgrounds: equal stems in a package, or similar looks.

    Args:
        entries: Entries as for `assign_cutouts`, with kinds instead of classes.
        root: Root of their paths.
        share: Share of families for validation.
    """
    entries = _sorted(entries)
    families = group(
        ["/".join(filter(None, (entry.package, entry.path))) for entry in entries],
        [_background_stem(entry) for entry in entries],
        _hashes(entries, lambda entry: load_background(entry, root).image),
    )
    splits = split_families(
        [entry.class_name for entry in entries], families, share=share, salt=_SALT
    )
    return list(_filled(entries, families, splits))


def _background_stem(entry: Entry) -> tuple[str, str]:
    """Return the stem: Plasma has a directory per wallpaper; elsewhere the name decides."""
    folder, _, rest = entry.path.partition("/contents/")
    return (entry.package, folder) if rest else (entry.package, name_stem(entry.path))


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.class_name, entry.package, entry.path))


def _hashes(
    entries: Sequence[Entry], decode: Callable[[Entry], NDArray[np.uint8]]
) -> list[NDArray[np.bool_]]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda entry: hash_image(decode(entry)), entries))


def _filled(
    entries: Sequence[Entry], families: Sequence[str], splits: Sequence[str]
) -> Iterator[Entry]:
    for entry, family, split in zip(entries, families, splits, strict=True):
        yield replace(entry, family=family, split=split)
