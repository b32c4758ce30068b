# SPDX-License-Identifier: Apache-2.0
"""Files of a data set's images, found by the names in its annotations.

NOTE: A name is taken as relative to the folder of the images, and never leads out of it: of one
that is absolute, or climbs by "..", only the last part is looked at. Tools write such names on
another machine than the one that trains. A name that is not there is also looked for by its last
part in all folders below, and taken where one file and one annotated image have it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

_DRIVE = re.compile(r"^[A-Za-z]:|^[A-Za-z][A-Za-z0-9+.-]+:")  # of Windows, or a URL's scheme


def locate(names: Sequence[str], places: Sequence[Path]) -> tuple[Path, list[str | None]]:
    """Find images.

    Args:
        names: Of the images, as annotated.
        places: Folders they may be relative to; the one that holds the most of them is taken.

    Returns:
        The folder, and for each image its path in it, or None if it is not there.
    """
    inner = [_inner(name) for name in names]
    place, found = places[0], _present(inner, places[0])
    for candidate in places[1:]:
        there = _present(inner, candidate)
        if there.count(None) < found.count(None):
            place, found = candidate, there
    if None not in found:
        return place, found
    asked = Counter(posixpath.basename(name) for name in inner)
    files: defaultdict[str, list[str]] = defaultdict(list)
    for folder, _, inside in os.walk(place):
        for file in asked.keys() & inside:
            files[file].append((Path(folder) / file).relative_to(place).as_posix())
    for index, name in enumerate(inner):
        last = posixpath.basename(name)
        if found[index] is None and asked[last] == len(files[last]) == 1:
            found[index] = files[last][0]
    return place, found


def _inner(name: str) -> str:
    """A name as a path that stays inside of its folder."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or _DRIVE.match(path) or ".." in parts:
        parts = [part for part in parts if part != ".."][-1:]
    return "/".join(parts)


def _present(names: Sequence[str], folder: Path) -> list[str | None]:
    inside: dict[str, set[str]] = {}
    for parent in {posixpath.dirname(name) for name in names}:
        try:
            inside[parent] = set(os.listdir(folder / parent))  # noqa: PTH208 - paths of 100,000 are slow
        except (OSError, ValueError):  # the name may be no name of a folder at all
            inside[parent] = set()
    return [n if posixpath.basename(n) in inside[posixpath.dirname(n)] else None for n in names]


def size_remedy(found: Sequence[int], annotated: Sequence[int]) -> str:
    """What to do about an image, read upright, of another (height, width) than annotated."""
    if tuple(found) != tuple(annotated)[::-1]:
        return "annotate the image that is there, or put the annotated one back"
    # Exporters that overlook EXIF write such sizes beside labels of either form, so it stays open.
    return (
        "the two are swapped: take the orientation out of the file's EXIF data if the outlines fit "
        "the image as it is stored, else correct the annotated size"
    )
