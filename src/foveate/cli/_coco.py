# SPDX-License-Identifier: Apache-2.0
"""A COCO document in a file that is valid at every moment."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli._console import write_out
from foveate.errors import InputError
from foveate.system.files import write_file

if TYPE_CHECKING:
    from foveate.results.coco import CocoDocument

_SHARE = 0.05
"""Of the time since the file was last written, this much at most goes into writing it again."""


class CocoFile:
    """Where a document goes: a file that follows it, or what is written once, at the end.

    Args:
        target: The file, ``-`` for stdout, or None for nowhere.
        document: What is written.
    """

    def __init__(self, target: str | None, document: CocoDocument) -> None:
        self._target, self._document = target, document
        self._follows = target not in (None, "-") and _is_file(Path(target or ""))
        self._written = 0
        self._cost, self._time = 0.0, time.monotonic()

    def follow(self) -> None:
        """Write the file if it is time to. What fails is tried again at the end."""
        if self._follows and (time.monotonic() - self._time) * _SHARE >= self._cost:
            started = time.monotonic()
            with contextlib.suppress(InputError):
                self.finish()
            self._time = time.monotonic()
            self._cost = self._time - started

    def finish(self) -> None:
        """Write what was not written yet.

        Raises:
            InputError: It cannot be written.
        """
        count = len(self._document)
        if self._target == "-":
            if not self._written:
                self._written = 1
                write_out(self._document.to_json())
        elif self._target is not None and count > self._written:
            write_file(Path(self._target), self._document.to_json().encode())
            self._written = count


def _is_file(path: Path) -> bool:
    """Tell a file, or what may become one, from a device or a pipe, which takes one document."""
    return path.is_file() or not path.exists()
