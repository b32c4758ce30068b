# SPDX-License-Identifier: Apache-2.0
"""Layouts of data sets on disk: where their annotations and images are."""

import contextlib
import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.datasets.fields import read_json
from foveate.datasets.labelme import read_labelme
from foveate.errors import DataError

LAYOUTS = (
    ("Foveate", "train/annotations.json and train/images/; validation/ likewise"),
    ("COCO", "annotations/instances_train2017.json and train2017/, of any year; val2017 likewise"),
    ("CVAT (COCO 1.0)", "annotations/instances_default.json and images/, or a subset's names"),
    ("Roboflow (COCO)", "train/_annotations.coco.json and the images next to it; valid/ likewise"),
    ("labelme", "images with a .json file each, in the directory or in train/ and val/"),
    ("one file", "a COCO file of any name, or its directory, and the images next to or below it"),
)
"""The supported layouts: name and description."""

_NAMED = {"annotations.json": "Foveate", "_annotations.coco.json": "Roboflow (COCO)"}
_PART = re.compile(r"(?:^|[^a-z])(train|val|test)(?:ing|id|idation)?(?![a-z])")
# What a file of each kind has in its first bytes.
MARKS = {
    "coco": re.compile(rb'"(?:images|annotations|categories|licenses)"\s*:'),
    "labelme": re.compile(rb'"shapes"\s*:'),
    "cvat": re.compile(rb"<annotations\b"),
}
_HEAD = 1 << 16  # bytes at the start, in which both kinds have one of their field names


@dataclass(frozen=True, kw_only=True)
class Source:
    """The place of one part of a data set.

    Args:
        layout: Name of the layout in ``LAYOUTS``.
        file: COCO file, or directory of labelme's files.
        places: Directories that the names of the images may be relative to, the most likely first.
    """

    layout: str
    file: Path
    places: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The directory, if the name of the file is a usual one; otherwise the file."""
        return str(self.file.parent if self.file.name in _NAMED else self.file)

    def read(self) -> Any:
        """Read the annotations, unchecked; DataError is raised if they are not JSON."""
        if self.file.is_dir():
            return read_labelme(self.file)
        return read_json(self.file, remedy="name the COCO file of a data set, or export it again")


def find_parts(folder: Path) -> dict[str, Source]:
    """Find the parts of a data set: "train", "val" and "test", or "" if it is in one piece.

    Args:
        folder: Directory in one of ``LAYOUTS``, or a COCO file.

    Raises:
        DataError: It is in none of the layouts, or has a part twice.
    """
    try:
        if folder.is_file() and folder.suffix.lower() == ".json":
            return {"": _beside(folder, "one file")}
        listed = () if folder.is_file() else folder.iterdir()
        inside = sorted(path for path in listed if path.is_dir())
        parts = (
            _named(folder)
            or _gather(folder, ((p.name, s) for p in inside for s in _whole(p) if _part(p.name)))
            or _annotations(folder, "instances_*.json")
            or _annotations(folder, "*.json")
            or _gather(folder, ((f.stem, _beside(f, "one file")) for f in _files(folder, "coco")))
            or _labelme(folder)
        )
    except OSError as error:
        raise DataError(
            f"the data set cannot be read ({error.strerror})",
            file=error.filename or folder,
            remedy="check the path",
        ) from error
    if not parts:
        looks = "; ".join(f"{name}: {look}" for name, look in LAYOUTS)
        raise DataError(
            f"the layout of the data set is unknown, expected one of these: {looks}",
            file=folder,
            remedy="lay it out in one of these ways",
        )
    return parts


def find_source(directory: Path, annotations: Path | None = None) -> Source:
    """Find a data set in one part; ``annotations`` makes ``directory`` that of the images.

    Raises:
        DataError: It is in none of the layouts, or has several parts.
    """
    if annotations is not None:
        return Source(layout="one file", file=annotations, places=(directory,))
    parts = find_parts(directory)
    if len(parts) > 1:
        raise DataError(
            f"the data set has several parts: {', '.join(parts)}",
            file=directory,
            remedy="name one of them",
        )
    return next(iter(parts.values()))


def _part(name: str) -> str:
    found = _PART.search(name.lower())
    return found[1] if found else ""


def _gather(folder: Path, named: Iterable[tuple[str, Source]]) -> dict[str, Source]:
    parts: dict[str, Source] = {}
    for name, source in named:
        part = _part(name)
        if part in parts:
            raise DataError(
                f"two files may be the {part or 'only'} part: {parts[part].file} and {source.file}",
                file=folder,
                remedy="move one of them away, or name the other as the data set",
            )
        parts[part] = source
    return parts


def _whole(folder: Path) -> Sequence[Source]:
    """Return the sources of a directory that contains one part: one, or none."""
    parts = _named(folder)
    parts = parts or {f.name: _beside(f, "one file") for f in _files(folder, "coco")}
    return tuple((parts or _labelme(folder)).values())


def _named(folder: Path) -> dict[str, Source]:
    for name, layout in _NAMED.items():
        if (folder / name).is_file():
            return {"": _beside(folder / name, layout)}
    return {}


def _annotations(folder: Path, pattern: str) -> dict[str, Source]:
    """Return the sources of a directory of annotations by COCO or CVAT, one file per part."""
    named = []
    for file in sorted((folder / "annotations").glob(pattern)):
        if is_of(file, "coco"):
            name = file.stem.removeprefix("instances_")
            layout = "COCO" if (folder / name).is_dir() else "CVAT (COCO 1.0)"
            places = (folder / name, folder / "images" / name)
            named.append((file.stem, _source(layout, file, *places, *_around(folder))))
    return _gather(folder, named)


def _labelme(folder: Path) -> dict[str, Source]:
    if _files(folder, "labelme") or any(_files(p, "labelme") for p in folder.glob("*/")):
        return {"": _source("labelme", folder, folder)}
    return {}


def _beside(file: Path, layout: str) -> Source:
    return _source(layout, file, *_around(file.parent))


def _around(folder: Path) -> tuple[Path, ...]:
    return folder / "images", folder / "images", folder


def _source(layout: str, file: Path, *places: Path) -> Source:
    return Source(layout=layout, file=file, places=tuple(p for p in places if p.is_dir()))


def _files(folder: Path, kind: str) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if is_of(file, kind)]


def is_of(file: Path, kind: str) -> bool:
    """Return whether a path is a regular file with annotations of a kind, a key of ``MARKS``."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        head = stream.read(_HEAD).replace(b"\0", b"")  # as ASCII, even if it is UTF-16
    return bool(MARKS[kind].search(head))


_DRIVE = re.compile(r"^[A-Za-z]:|^[A-Za-z][A-Za-z0-9+.-]+:")  # of Windows, or of a URL


# A name is relative to the directory of the images and never leads out of it: only the last part of
# an absolute name, or of one with "..", is used, since tools write the paths of another machine. A
# name that does not exist is also searched for by its last part in all directories below, and
# accepted where one file and one annotated image have it.
def locate(names: Sequence[str], places: Sequence[Path]) -> tuple[Path, list[str | None]]:
    """Find images by their annotated names, in the one of several directories that has the most.

    Returns:
        The directory, and for each image its path in it, or None if it does not exist.
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
    """Return a name as a path that stays inside its directory."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or _DRIVE.match(path) or ".." in parts:
        parts = [part for part in parts if part != ".."][-1:]
    return "/".join(parts)


def _present(names: Sequence[str], folder: Path) -> list[str | None]:
    inside: defaultdict[str, set[str]] = defaultdict(set)
    for parent in {posixpath.dirname(name) for name in names}:
        # The name may be invalid as the name of a directory.
        with contextlib.suppress(OSError, ValueError):
            inside[parent].update(os.listdir(folder / parent))  # noqa: PTH208 - paths of 100,000 are slow
    return [n if posixpath.basename(n) in inside[posixpath.dirname(n)] else None for n in names]


def size_remedy(found: Sequence[int], annotated: Sequence[int]) -> str:
    """Return the remedy for an upright image of another (height, width) than annotated."""
    if tuple(found) != tuple(annotated)[::-1]:
        return "annotate the image that is there, or put the annotated one back"
    # Exporters that ignore EXIF write such sizes, whichever way their labels are turned.
    return (
        "the two are swapped: take the orientation out of the file's EXIF data if the outlines fit "
        "the image as it is stored; otherwise correct the annotated size"
    )
