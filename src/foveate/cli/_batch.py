# SPDX-License-Identifier: Apache-2.0
"""A list of images through a pipeline, whatever is wrong with some of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli._console import say
from foveate.errors import FoveateError, InputError
from foveate.images.reading import find_images, read_image
from foveate.system.shortage import shortage

if TYPE_CHECKING:
    from foveate.arrays import UInt8Array
    from foveate.results.detections import Detections
    from foveate.runtime.pipeline import Pipeline


class Batch:
    """Images to be done one after the other. A bad one is noted and does not stop the rest.

    Args:
        given: Files and folders.
    """

    def __init__(self, given: Sequence[str]) -> None:
        self.failures: list[FoveateError] = []
        self.files: list[Path] = []
        for text in given:
            try:
                files, left_out = find_images([text])
            except InputError as error:
                self.failures.append(error)
                continue
            self.files.extend(files)
            if left_out:
                say(left_out, aside=True)
        self._bad_arguments = len(self.failures)

    def __len__(self) -> int:
        return len(self.files) + self._bad_arguments

    def run(self, pipeline: Pipeline) -> Iterator[tuple[Path, UInt8Array, Detections]]:
        """Yield each file that could be done, its pixels, and what was found, in order.

        Raises:
            FoveateError: The pipeline can do no image at all.
        """
        waiting = deque(self.files)
        flying: deque[tuple[Path, UInt8Array]] = deque()
        while waiting:
            try:
                for detections in pipeline.stream(self._read(waiting, flying)):
                    yield *flying.popleft(), detections
            except (FoveateError, MemoryError) as error:
                if not flying:
                    raise
                # Results come in order, so this is the oldest image. The others begin again.
                self.fail(flying.popleft()[0], error)
                waiting.extendleft(reversed([file for file, _ in flying]))
                flying.clear()

    def fail(self, file: Path, error: FoveateError | MemoryError) -> None:
        """Note that an image could not be done."""
        if (short := shortage(error)) is not None:
            error = InputError(short.what, file=file, remedy=short.remedy)
        assert isinstance(error, FoveateError)  # a MemoryError is a shortage
        if error.file != str(file):
            error = InputError(f"the image failed ({error})", file=file)
        self.failures.append(error)

    def _read(
        self, waiting: deque[Path], flying: deque[tuple[Path, UInt8Array]]
    ) -> Iterator[UInt8Array]:
        while waiting:
            file = waiting.popleft()
            try:
                image = read_image(file)
            except (InputError, MemoryError) as error:
                self.fail(file, error)
                continue
            flying.append((file, image))
            yield image
