# SPDX-License-Identifier: Apache-2.0
"""The split into training and validation by family, so that no object is in both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from foveate.errors import DataError

TRAINING = "train"
VALIDATION = "validation"
_BIG = 0.35  # share of its class from which on a family goes to validation last of all


def split_families(
    classes: Sequence[str],
    families: Sequence[str],
    *,
    share: float = 0.25,
    min_members: int = 0,
    min_families: int = 1,
    salt: str = "",
) -> list[str]:
    """Assign families to training or validation, class by class.

    Families are taken in the order of a hash of their names, which is arbitrary but does not change
    when other families come or go; those that are a big part of their class come last. One goes to
    validation as long as its class has too few families, or too few members, there.

    Args:
        classes: Class of each member.
        families: Family of each member; a family may span classes.
        share: Share of each class's families that validation gets.
        min_members: Members of each class that validation gets at least.
        min_families: Families of each class that validation gets at least.
        salt: Text that is hashed with each name; another one gives another assignment.

    Returns:
        `TRAINING` or `VALIDATION` for each member.

    Raises:
        DataError: A class is too small to leave a family for training.
    """
    members: dict[str, Counter[str]] = {}
    for name, family in zip(classes, families, strict=True):
        members.setdefault(family, Counter())[name] += 1
    order = sorted(members, key=lambda family: sha256((salt + family).encode()).hexdigest())
    chosen: set[str] = set()
    for name in sorted(set(classes)):
        own = _small_first(name, [family for family in order if name in members[family]], members)
        wanted = max(min_families, round(share * len(own)))
        for family in own:
            held = [other for other in own if other in chosen]
            if len(held) >= wanted and sum(members[other][name] for other in held) >= min_members:
                break
            chosen.add(family)
        _check(name, own, chosen, members, min_members)
    return [VALIDATION if family in chosen else TRAINING for family in families]


def _small_first(name: str, own: Sequence[str], members: dict[str, Counter[str]]) -> list[str]:
    limit = _BIG * sum(members[family][name] for family in own)
    return sorted(own, key=lambda family: members[family][name] > limit)


def _check(
    name: str,
    own: Sequence[str],
    chosen: set[str],
    members: dict[str, Counter[str]],
    min_members: int,
) -> None:
    held = sum(members[family][name] for family in own if family in chosen)
    if held < min_members or all(family in chosen for family in own):
        raise DataError(
            f"class {name!r} has {len(own)} families of similar images, too few to leave one for "
            f"training and {max(1, min_members)} members for validation",
            remedy="merge it with another class or leave it out",
        )
