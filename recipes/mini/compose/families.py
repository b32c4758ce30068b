# SPDX-License-Identifier: Apache-2.0
"""Families, images that show the same thing, and their split into training and validation.

Two images are of one family when

1. their names differ in marks of a variant only (`lion`, `lion-2`; `dumper`, `dumper_mirror`;
   `donkey`, `donkey_eating`) and they are of one class, or
2. they look alike, or one looks like the other's mirror image, to a perceptual hash.

A family is never shared between training and validation, and the bootstrap of evaluation draws
families, not images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from compose.library import load_background, load_cutout
from compose.lists import Entry
from foveate.errors import DataError

TRAINING = "train"
VALIDATION = "validation"
_SHARE = 0.25  # of the families of each class, for validation
_BIG = 0.35  # share of its class from which on a family goes to validation last of all
# Hashed with each name: with this text, every class of the recipe is in both splits.
_SALT = "mini"

# Words that tell variants, poses and states of one thing apart.
_VARIANTS = frozenset(
    word
    for line in (
        "mirror mirrored flip flipped left right front back profile",
        "stand standing sit sitting lying eating flying running",
        "closed open new old little small large big baby",
        "photo whole sliced shelled full crescent qt",
    )
    for word in line.split()
)
_HASH_SIDE = 8
_ALIKE = 6  # bits of 64; measured on the recipe's lists: the nearest pair of different things has 8


def name_stem(path: str) -> str:
    """Return a file's name without the marks of a variant: case, numbers, poses, plural.

    `grass-1.png`, `Grass_mirror.png` and `grass2.png` all give `grass`. A name that consists of
    such marks only stays whole.
    """
    name = PurePosixPath(path).stem
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    kept = [word for word in words if word not in _VARIANTS and len(word) > 1] or words
    return "_".join(word.removesuffix("s") for word in kept) or name.lower()


def hash_image(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Compute the perceptual hash of an image: signs of its lowest frequencies.

    Args:
        image: (H, W, 3) or (H, W, 4), uint8. A fourth channel is alpha; the image is then laid
            over middle gray, and should be cropped to what is visible.

    Returns:
        (2, 64) bool: of the image and of its mirror image; of both the brightness.
    """
    color = image[..., :3].astype(np.float32)
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / np.float32(255)
        color = color * alpha + 127 * (1 - alpha)
    small = cv2.resize(color.mean(axis=2), (32, 32), interpolation=cv2.INTER_AREA)
    return np.stack([_low_frequencies(small), _low_frequencies(small[:, ::-1])])


def _low_frequencies(small: NDArray[np.float32]) -> NDArray[np.bool_]:
    waves = cv2.dct(np.ascontiguousarray(small))[:_HASH_SIDE, :_HASH_SIDE].ravel()
    # The mean brightness says nothing about what is shown.
    return np.asarray(waves > np.median(waves[1:]), dtype=np.bool_)


def is_alike(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Return whether two images, or one and the mirrored other, differ in few bits.

    Args:
        one: (2, 64) bool, from `hash_image`.
        other: The same, of the other image.
    """
    return bool(np.count_nonzero(one[0] != other, axis=1).min() <= _ALIKE)


def group(
    names: Sequence[str], stems: Sequence[Hashable], hashes: Sequence[NDArray[np.bool_]]
) -> list[str]:
    """Return the family of each image.

    Args:
        names: Names of the images; a family is called by the first of its members.
        stems: Images with equal stems are of one family.
        hashes: Images with like hashes are of one family, see `is_alike`.

    Returns:
        A family's name for each image.
    """
    leader = list(range(len(names)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    seen: dict[Hashable, int] = {}
    for index, stem in enumerate(stems):
        alike = [one for one in range(index) if is_alike(hashes[one], hashes[index])]
        for other in (seen.setdefault(stem, index), *alike):
            leader[find(index)] = find(other)
    first: dict[int, str] = {}
    for index in sorted(range(len(names)), key=lambda index: names[index]):
        first.setdefault(find(index), names[index])
    return [first[find(index)] for index in range(len(names))]


def split_families(
    classes: Sequence[str], families: Sequence[str], *, min_members: int = 0, min_families: int = 1
) -> list[str]:
    """Assign families to training or validation, class by class.

    Families are taken in the order of a hash of their names, which is arbitrary but does not change
    when other families come or go; those that are a big part of their class come last. One goes to
    validation as long as its class has too few families, or too few members, there.

    Args:
        classes: Class of each member.
        families: Family of each member; a family may span classes.
        min_members: Members of each class that validation gets at least.
        min_families: Families of each class that validation gets at least.

    Returns:
        `TRAINING` or `VALIDATION` for each member.

    Raises:
        DataError: A class is too small to leave a family for training.
    """
    members: dict[str, Counter[str]] = {}
    for name, family in zip(classes, families, strict=True):
        members.setdefault(family, Counter())[name] += 1
    order = sorted(members, key=lambda family: sha256((_SALT + family).encode()).hexdigest())
    chosen: set[str] = set()
    for name in sorted(set(classes)):
        counts = {family: members[family][name] for family in order if name in members[family]}
        big = _BIG * sum(counts.values())
        wanted = max(min_families, round(_SHARE * len(counts)))
        for family in sorted(counts, key=lambda family: counts[family] > big):
            held = [count for other, count in counts.items() if other in chosen]
            if len(held) >= wanted and sum(held) >= min_members:
                break
            chosen.add(family)
        held = [count for other, count in counts.items() if other in chosen]
        if sum(held) < min_members or len(held) == len(counts):
            raise DataError(
                f"class {name!r} has {len(counts)} families of similar images, too few to leave one "
                f"for training and {max(1, min_members)} members for validation",
                remedy="merge it with another class or leave it out",
            )
    return [VALIDATION if family in chosen else TRAINING for family in families]


def assign_cutouts(
    entries: Iterable[Entry], root: Path, *, min_members: int = 0, min_families: int = 1
) -> list[Entry]:
    """Assign families and splits to cut-outs: equal stems in a class, or similar looks.

    Args:
        entries: With their classes; families and splits that they have are ignored.
        root: Root of their paths.
        min_members: See `split_families`.
        min_families: Likewise.

    Returns:
        The entries, sorted by class, package and path.
    """
    entries = _sorted(entries)
    families = group(
        [f"{entry.class_name}/{name_stem(entry.path)}" for entry in entries],
        [(entry.class_name, name_stem(entry.path)) for entry in entries],
        _hashes(entries, lambda entry: load_cutout(entry, root).image),
    )
    return _filled(entries, families, min_members, min_families)


def assign_backgrounds(entries: Iterable[Entry], root: Path) -> list[Entry]:
    """Assign families and splits to backgrounds: equal stems in a package, or similar looks.

    Args:
        entries: Entries as for `assign_cutouts`, with kinds instead of classes.
        root: Root of their paths.
    """
    entries = _sorted(entries)
    families = group(
        ["/".join(filter(None, (entry.package, entry.path))) for entry in entries],
        [_background_stem(entry) for entry in entries],
        _hashes(entries, lambda entry: load_background(entry, root).image),
    )
    return _filled(entries, families, 0, 1)


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
    entries: Sequence[Entry], families: Sequence[str], min_members: int, min_families: int
) -> list[Entry]:
    classes = [entry.class_name for entry in entries]
    splits = split_families(classes, families, min_members=min_members, min_families=min_families)
    filled = zip(entries, families, splits, strict=True)
    return [replace(entry, family=family, split=split) for entry, family, split in filled]
