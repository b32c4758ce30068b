# SPDX-License-Identifier: Apache-2.0
"""Outputs of ``foveate label``: a file per image, or one file for all; nothing is replaced unasked."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from foveate.cli._files import DocumentFile, check_folder, check_outputs
from foveate.datasets.layouts import is_of
from foveate.errors import InputError
from foveate.labeling import CocoLabels, CvatLabels, LabeledObject, labelme_json
from foveate.plain_text import counted
from foveate.system.files import write_file

_NAMED = 3  # files that a message names


class LabelmeFiles:
    """A file of labelme for each image, next to it or in a directory.

    Args:
        images: Files of the images.
        folder: Directory of the files; None for that of each image.
        overwrite: Whether existing files of labelme are replaced.

    Attributes:
        files: Images to process.
        notes: Lines about images that are not processed, and need not be.
        problems: Errors of images that cannot be processed.
    """

    def __init__(self, images: Sequence[Path], folder: Path | None, *, overwrite: bool) -> None:
        self._folder = folder
        for place in {self._target(file).parent for file in images}:
            check_folder(place)
        groups: defaultdict[Path, list[Path]] = defaultdict(list)
        for file in images:
            groups[self._target(file)].append(file)
        existing = {target for target in groups if os.path.lexists(target)}
        foreign = {target for target in existing if not _is_of("labelme", target)}
        left = existing if not overwrite else foreign
        self.files = [files[0] for target, files in groups.items() if target not in left]
        self.notes = []
        if kept := sorted(existing - foreign) if not overwrite else []:
            what = f"{counted(len(kept), 'image has', 'images have')} a label file already"
            self.notes = [f"{what}: {_named(kept)}: --overwrite replaces them"]
        self.problems = [_foreign("labelme", sorted(foreign))] if foreign else []
        self.problems += [_shared(target, files) for target, files in groups.items() if files[1:]]

    def _target(self, file: Path) -> Path:
        return (self._folder or file.parent) / f"{file.stem}.json"

    def add(self, file: Path, height: int, width: int, objects: Sequence[LabeledObject]) -> None:
        """Write the file of an image."""
        target = self._target(file)
        # Without links, since `..` leads from the real directory.
        image = os.path.relpath(file.resolve(), target.parent.resolve()).replace(os.sep, "/")
        write_file(target, labelme_json(image, height, width, objects).encode())

    def finish(self) -> None:
        """Do nothing: each file is complete."""

    def place(self) -> str:
        """Return the directory of the files."""
        return str(self._folder) if self._folder else "the .json files next to the images"


class LabelDocument:
    """One file with the annotations of all images, valid at any time.

    Its attributes are those of ``LabelmeFiles``.

    Args:
        images: Files of the images.
        kind: "coco" or "cvat".
        target: The file, or ``-`` for stdout.
        class_names: Names of the classes.
        overwrite: Whether an existing file of the same kind is replaced.

    Raises:
        InputError: The file exists, or cannot be written.
    """

    def __init__(
        self,
        images: Sequence[Path],
        kind: str,
        target: str,
        class_names: Sequence[str],
        *,
        overwrite: bool,
    ) -> None:
        path = Path(target)
        check_outputs(path, inputs=images)
        if target != "-" and path.is_file():
            if not overwrite:
                remedy = "--overwrite replaces it, --output names another one"
                raise InputError("the file exists", file=path, remedy=remedy)
            if not _is_of(kind, path):
                raise _foreign(kind, [path])
        self.files, self.notes, self.problems = list(images), list[str](), list[InputError]()
        self._names = _names(images)
        self._target = target
        self._document = (CocoLabels if kind == "coco" else CvatLabels)(class_names)
        self._file = DocumentFile(target, self._document)

    def add(self, file: Path, height: int, width: int, objects: Sequence[LabeledObject]) -> None:
        """Add an image, and write the file if enough time has passed."""
        self._document.add(self._names[file], height, width, objects)
        self._file.update()

    def finish(self) -> None:
        """Write the file."""
        self._file.finish()

    def place(self) -> str:
        """Return the path of the file."""
        return "stdout" if self._target == "-" else self._target


LabelOutput: TypeAlias = LabelmeFiles | LabelDocument


def distinct(images: Sequence[Path]) -> list[Path]:
    """Return the images without those that were given before, also by another path."""
    first: dict[Path, Path] = {}
    for file in images:
        first.setdefault(_absolute(file), file)
    return list(first.values())


def _absolute(file: Path) -> Path:
    """Return a path without ``..``, in which links stay: each is an image of its own."""
    return Path(os.path.normpath(file.absolute()))


def _names(images: Sequence[Path]) -> dict[Path, str]:
    """Return names of images as annotation tools know them: without directories if these differ."""
    if len({file.name for file in images}) == len(set(images)):
        return {file: file.name for file in images}
    paths = {file: _absolute(file) for file in images}
    common = os.path.commonpath([path.parent for path in paths.values()])
    return {file: path.relative_to(common).as_posix() for file, path in paths.items()}


def _is_of(kind: str, path: Path) -> bool:
    """Return whether an existing file has annotations of a kind."""
    try:
        return is_of(path, kind)
    except OSError:
        return False


def _foreign(kind: str, paths: Sequence[Path]) -> InputError:
    what = f"{counted(len(paths), 'existing file is', 'existing files are')} not of {kind}"
    remedy = "move it away" if len(paths) == 1 else "move them away"
    return InputError(what, file=_named(paths), remedy=f"{remedy}, or choose another --output")


def _shared(target: Path, files: Sequence[Path]) -> InputError:
    what = f"{target.name} can only have the annotations of {files[0]}, not those of"
    others = ", ".join(str(file) for file in files[1:])
    remedy = "rename one of the images"
    return InputError(f"{what} {others}", file=target.parent, remedy=remedy)


def _named(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(str(path) for path in paths[:_NAMED]) + more
