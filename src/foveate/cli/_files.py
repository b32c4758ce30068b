# SPDX-License-Identifier: Apache-2.0
"""The outputs of a command: where they may go, their names, and images among them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2

from foveate.arrays import UInt8Array
from foveate.errors import InputError
from foveate.system.files import check_writable, write_file


def check_folder(path: Path | None) -> None:
    """Check before the work that files can be written to a folder, which may not exist yet.

    Raises:
        InputError: They cannot.
    """
    if path is not None:
        try:
            check_writable(path / "output")
        except InputError as error:
            raise InputError(error.what, file=path, remedy=error.remedy) from error


def check_output(path: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Check before the work that an output can be written; None and ``-`` are none.

    Raises:
        InputError: It cannot, or it would replace an input.
    """
    if path is None or path == Path("-"):
        return
    check_writable(path)
    for one in inputs:
        with contextlib.suppress(OSError):
            if one is not None and path.samefile(one):
                raise InputError("the output is an input too", file=path, remedy="choose another")


def write_jpeg(path: Path, image: UInt8Array) -> None:
    """Write a (H, W, 3) RGB image, which is used up: its channels change places."""
    cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    write_file(path, encoded.tobytes())


class OutputNames:
    """Names for what is made of images, different for images of the same name.

    Args:
        folder: Where the outputs go.
        inputs: Files whose places are not given out.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._used = set(_names_in(folder, inputs))

    def next(self, source: Path, suffix: str) -> Path:
        """Return ``<stem><suffix>``, or ``<stem>-2<suffix>`` and so on if that was given out."""
        name, number = f"{source.stem}{suffix}", 1
        while name.lower() in self._used:  # some file systems do not tell cases apart
            number += 1
            name = f"{source.stem}-{number}{suffix}"
        self._used.add(name.lower())
        return self._folder / name


def _names_in(folder: Path, files: Iterable[Path]) -> Iterator[str]:
    """Yield the names of the files that lie in a folder, in small letters."""
    for file in files:
        with contextlib.suppress(OSError):  # there is no such folder yet
            if file.parent.samefile(folder):
                yield file.name.lower()
