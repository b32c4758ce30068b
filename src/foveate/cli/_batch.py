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
from foveate.shortage import shortage

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
        self._bad_arguments = len(self.failures)

    def __len__(self) -> int:
        return len(self.files) + self._bad_arguments

    def run(self, pipeline: Pipeline) -> Iterator[tuple[Path, Bytes, Detections]]:
        """Yield each file that could be done, its pixels, and what was found, in order.

        Raises:
            FoveateError: The pipeline can do no picture at all.
        """
        waiting = deque(self.files)
        flying: deque[tuple[Path, Bytes]] = deque()
        while waiting:
            try:
                for detections in pipeline.stream(self._read(waiting, flying)):
                    yield *flying.popleft(), detections
            except (FoveateError, MemoryError) as error:
                if not flying:
                    raise
                # Results come in order, so this is the oldest picture. The others begin again.
                self.fail(flying.popleft()[0], error)
                waiting.extendleft(reversed([file for file, _ in flying]))
                flying.clear()

    def fail(self, file: Path, error: FoveateError | MemoryError) -> None:
        """Note that a picture could not be done."""
        if (short := shortage(error)) is not None:
            error = InputError(short.what, file=file, remedy=short.remedy)
        assert isinstance(error, FoveateError)  # a MemoryError is a shortage
        if error.file != str(file):
            error = InputError(f"the picture failed ({error})", file=file)
        self.failures.append(error)

    def _read(self, waiting: deque[Path], flying: deque[tuple[Path, Bytes]]) -> Iterator[Bytes]:
        while waiting:
            file = waiting.popleft()
            try:
                picture = read_picture(file)
            except (InputError, MemoryError) as error:
                self.fail(file, error)
                continue
            flying.append((file, picture))
            yield picture
