# SPDX-License-Identifier: Apache-2.0
"""A list of pictures through a pipeline, whatever is wrong with some of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli._console import say
from foveate.errors import FoveateError, InputError
from foveate.pictures import find_pictures, read_picture

if TYPE_CHECKING:
    from foveate.arrays import Bytes
    from foveate.detections import Detections
    from foveate.runtime.pipeline import Pipeline

__all__ = ["Batch"]


class Batch:
    """Pictures to be done one after the other. A bad one is noted and does not stop the rest.

    Args:
        given: Files and folders.
    """

    def __init__(self, given: Sequence[str]) -> None:
        self.failures: list[FoveateError] = []
        self.files: list[Path] = []
        for text in given:
            try:
                files, left_out = find_pictures([text])
            except InputError as error:
                self.failures.append(error)
                continue
            self.files.extend(files)
            if left_out:
                say(left_out, aside=True)
        self._bad_folders = len(self.failures)

    def __len__(self) -> int:
        return len(self.files) + self._bad_folders

    def run(self, pipeline: Pipeline) -> Iterator[tuple[Path, Bytes, Detections]]:
        """Yield each file that could be read, its pixels, and what was found, in order."""
        flying: deque[tuple[Path, Bytes]] = deque()
        for detections in pipeline.stream(self._read(flying)):
            yield *flying.popleft(), detections

    def _read(self, flying: deque[tuple[Path, Bytes]]) -> Iterator[Bytes]:
        for file in self.files:
            try:
                picture = read_picture(file)
            except InputError as error:
                self.failures.append(error)
                continue
            flying.append((file, picture))
            yield picture
