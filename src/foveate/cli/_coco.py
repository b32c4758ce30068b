# SPDX-License-Identifier: Apache-2.0
"""Results of several pictures as one COCO document, in a file that is valid at every moment."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pycocotools import mask as coco_mask

from foveate.cli._console import write_out
from foveate.errors import InputError
from foveate.files import write_file
from foveate.plain_text import json_text, portable_name

if TYPE_CHECKING:
    from foveate.detections import Detections

__all__ = ["CocoDocument", "CocoFile"]

_SHARE = 0.05
"""Of the time since the file was last written, this much at most goes into writing it again."""


class CocoDocument:
    """Collects ``images``, ``categories`` and ``annotations``, with ids from 1.

    ``annotations`` alone is a COCO results list. A picture without a result is listed too. Each
    entry is made into text once, so that the whole can be written after every picture.

    Args:
        class_names: Names of the categories.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._images: list[str] = []
        self._annotations: list[str] = []
        self._categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]

    def __len__(self) -> int:
        return len(self._images)

    def add(self, file_name: str, detections: Detections) -> None:
        """Add what was found in a picture."""
        _, height, width = detections.masks.shape
        image = len(self._images) + 1
        entries: list[str] = []
        for entry in detections.to_coco(image):
            entry["id"] = len(self._annotations) + len(entries) + 1
            entry["area"] = int(coco_mask.area(entry["segmentation"]))
            entry["iscrowd"] = 0
            entries.append(json_text(entry).rstrip())
        size = {"width": width, "height": height}
        self._annotations += entries
        self._images.append(
            json_text({"id": image, "file_name": portable_name(file_name), **size}).rstrip()
        )

    def to_json(self) -> str:
        """Return the document as text."""
        images, annotations = ", ".join(self._images), ", ".join(self._annotations)
        categories = json_text(self._categories).rstrip()
        return f'{{"images": [{images}], "categories": {categories}, "annotations": [{annotations}]}}\n'


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
