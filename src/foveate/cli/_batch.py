# SPDX-License-Identifier: Apache-2.0
"""Running a pipeline on a list of images, some of which may fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli._console import print_line
from foveate.errors import FoveateError, InputError
from foveate.images.reading import find_images, read_image
from foveate.system.resources import shortage

if TYPE_CHECKING:
    from foveate.arrays import UInt8Array
    from foveate.results.detections import Detections
    from foveate.runtime.pipeline import Pipeline


class Batch:
    """A list of images. One that fails is recorded and does not stop the others.

    Args:
        paths: Files and folders.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.failures: list[FoveateError] = []
        self.files: list[Path] = []
        for text in paths:
            try:
                files, left_out = find_images([text])
            except InputError as error:
                self.failures.append(error)
                continue
            self.files.extend(files)
            if left_out:
                print_line(left_out, to_stderr=True)
        self._bad_arguments = len(self.failures)  # they count as images in the summary

    def __len__(self) -> int:
        return len(self.files) + self._bad_arguments

    def run(self, pipeline: Pipeline) -> Iterator[tuple[Path, UInt8Array, Detections]]:
        """Yield each file that succeeded, its pixels and its detections, in order.

        Raises:
            FoveateError: The pipeline fails on every image.
        """
        waiting = deque(self.files)
        in_flight: deque[tuple[Path, UInt8Array]] = deque()
        while waiting:
            try:
                for detections in pipeline.stream(self._read(waiting, in_flight)):
                    yield *in_flight.popleft(), detections
            except (FoveateError, MemoryError) as error:
                if not in_flight:  # the pipeline itself fails
                    raise
                # Results come in order, so the oldest image failed. The others start again.
                self.fail(in_flight.popleft()[0], error)
                waiting.extendleft(reversed([file for file, _ in in_flight]))
                in_flight.clear()

    def fail(self, file: Path, error: FoveateError | MemoryError) -> None:
        """Record that an image failed."""
        if (short := shortage(error)) is not None:
            error = InputError(short.what, file=file, remedy=short.remedy)
        assert isinstance(error, FoveateError)  # a MemoryError is a shortage
        if error.file != str(file):
            error = InputError(f"the image failed ({error})", file=file)
        self.failures.append(error)

    def _read(
        self, waiting: deque[Path], in_flight: deque[tuple[Path, UInt8Array]]
    ) -> Iterator[UInt8Array]:
        while waiting:
            file = waiting.popleft()
            try:
                image = read_image(file)
            except (InputError, MemoryError) as error:
                self.fail(file, error)
                continue
            in_flight.append((file, image))  # not before, since a bad file has no result
            yield image
