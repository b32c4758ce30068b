# SPDX-License-Identifier: Apache-2.0
"""Families: images that show the same thing.

Two images are of one family when

1. their names differ in marks of a variant only (`lion`, `lion-2`; `dumper`, `dumper_mirror`;
   `donkey`, `donkey_eating`) and they are of one class, or
2. they look alike, or one looks like the other's mirror image, to a perceptual hash.

A family is never shared between training and validation, and the bootstrap of evaluation draws
families, not images.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

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
    """A file's name without the marks of a variant: case, numbers, poses, plural.

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

    for one, other in _kin(stems, hashes):
        leader[find(one)] = find(other)
    first: dict[int, str] = {}
    for index in sorted(range(len(names)), key=lambda index: names[index]):
        first.setdefault(find(index), names[index])
    return [first[find(index)] for index in range(len(names))]


def _kin(
    stems: Sequence[Hashable], hashes: Sequence[NDArray[np.bool_]]
) -> Iterable[tuple[int, int]]:
    seen: dict[Hashable, int] = {}
    for index, stem in enumerate(stems):
        yield index, seen.setdefault(stem, index)
        yield from (
            (index, earlier) for earlier in range(index) if is_alike(hashes[earlier], hashes[index])
        )
