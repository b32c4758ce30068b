# SPDX-License-Identifier: Apache-2.0
"""Output files of the commands: checks before the work, names, images and COCO documents."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from foveate.arrays import UInt8Array
from foveate.cli._console import write_stdout
from foveate.errors import InputError
from foveate.system.files import check_writable, write_file

if TYPE_CHECKING:
    from foveate.results.coco import CocoDocument

# Largest share of the time since the last writing of a COCO file that its next writing may take.
_WRITING_SHARE = 0.05


def check_folder(path: Path | None) -> None:
    """Check before the work that files can be written to a folder, which may not exist yet.

    Raises:
        InputError: No file can be written to it.
    """
    if path is not None:
        try:
            check_writable(path / "output")  # any name; nothing is written
        except InputError as error:
            raise InputError(error.what, file=path, remedy=error.remedy) from error


def check_output(path: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Check before the work that an output can be written; ``-`` is stdout and needs no check.

    Raises:
        InputError: The file cannot be written, or is an input.
    """
    if path is None or path == Path("-"):
        return
    check_writable(path)
    for one in inputs:
        with contextlib.suppress(OSError):
            if one is not None and path.samefile(one):
                raise InputError(
                    "the output would overwrite an input", file=path, remedy="choose another file"
                )


def write_result(target: str | Path, text: str) -> None:
    """Write a result to a file, or to stdout if the target is ``-``."""
    if str(target) == "-":
        write_stdout(text)
    else:
        write_file(Path(target), text.encode())


def write_jpeg(path: Path, image: UInt8Array) -> None:
    """Write a (H, W, 3) RGB image. **Modifies the image in place**: its channels are reversed."""
    cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image)
    # `cv2.imwrite` would neither replace the file in one step nor raise.
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    write_file(path, encoded.tobytes())


class OutputNames:
    """Names for the outputs of images, distinct for images of the same name.

    Args:
        folder: Folder of the outputs.
        inputs: Files that no output may replace.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._used = set(_names_in(folder, inputs))

    def next(self, source: Path, suffix: str) -> Path:
        """Return ``<stem><suffix>``, or ``<stem>-2<suffix>`` and so on if that is already used."""
        name, number = f"{source.stem}{suffix}", 1
        while name.lower() in self._used:  # some file systems ignore case
            number += 1
            name = f"{source.stem}-{number}{suffix}"
        self._used.add(name.lower())
        return self._folder / name


class CocoFile:
    """Output of a COCO document: a file that is valid at any time, or stdout, written at the end.

    Args:
        target: The file, ``-`` for stdout, or None for no output.
        document: The document to write.
    """

    def __init__(self, target: str | None, document: CocoDocument) -> None:
        self._target, self._document = target, document
        self._updates = target not in (None, "-") and _is_file(Path(target or ""))
        self._written = 0
        self._cost, self._time = 0.0, time.monotonic()  # of the last writing

    def update(self) -> None:
        """Write the file if enough time has passed. A failure is retried by `finish`."""
        if self._updates and (time.monotonic() - self._time) * _WRITING_SHARE >= self._cost:
            started = time.monotonic()
            with contextlib.suppress(InputError):
                self.finish()
            self._time = time.monotonic()
            self._cost = self._time - started

    def finish(self) -> None:
        """Write the document if it has changed since it was last written.

        Raises:
            InputError: The output cannot be written.
        """
        count = len(self._document)
        if self._target == "-":
            if not self._written:
                self._written = 1  # even if it fails: half a document may have been written
                write_stdout(self._document.to_json())
        elif self._target is not None and count > self._written:
            write_file(Path(self._target), self._document.to_json().encode())
            self._written = count


def _names_in(folder: Path, files: Iterable[Path]) -> Iterator[str]:
    """Yield the names, in lower case, of the files that are in a folder."""
    for file in files:
        with contextlib.suppress(OSError):  # the folder does not exist yet
            if file.parent.samefile(folder):
                yield file.name.lower()


def _is_file(path: Path) -> bool:
    """Return whether this is or can become a file; a device or a pipe takes one document only."""
    return path.is_file() or not path.exists()
