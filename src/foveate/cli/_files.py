# SPDX-License-Identifier: Apache-2.0
"""Files of the commands: batches of images; checks, names and COCO documents of the outputs."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import cv2

from foveate.arrays import UInt8Array
from foveate.cli._console import print_line, write_stdout
from foveate.errors import FoveateError, InputError
from foveate.images.reading import find_images, read_image
from foveate.system.files import check_writable, write_file
from foveate.system.resources import shortage

if TYPE_CHECKING:
    from foveate.results.detections import Detections

Result_co = TypeVar("Result_co", covariant=True)
# Largest share of the time since a COCO file was last written that the next write may take.
_WRITING_SHARE = 0.05


def check_folder(path: Path | None) -> None:
    """Check before the work that files can be written to a directory, which may not exist yet."""
    if path is not None:
        try:
            check_writable(path / "output")  # any name; nothing is written
        except InputError as error:
            raise InputError(error.what, file=path, remedy=error.remedy) from error


def check_output(path: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Check before the work that an output can be written; ``-`` is stdout and needs no check."""
    if path is None or path == Path("-"):
        return
    check_writable(path)
    for one in inputs:
        with contextlib.suppress(OSError):
            if one is not None and path.samefile(one):
                what = "the output would overwrite an input"
                raise InputError(what, file=path, remedy="choose another file")


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


class Streaming(Protocol[Result_co]):
    """A pipeline, or what streams as it does."""

    def stream(self, images: Iterable[UInt8Array]) -> Iterator[Result_co]:
        """Return the result of each image, in order; see ``Pipeline.stream``."""


class Batch:
    """A list of images from files and directories; one that fails does not stop the others."""

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

    def run(self, pipeline: Streaming[Result_co]) -> Iterator[tuple[Path, UInt8Array, Result_co]]:
        """Yield each file that succeeded, its pixels and its result, in order.

        Args:
            pipeline: The pipeline, whose results are detections, or what streams as it does.

        Raises:
            FoveateError: The pipeline fails on every image.
        """
        waiting = deque(self.files)
        in_flight: deque[tuple[Path, UInt8Array]] = deque()
        while waiting:
            try:
                for result in pipeline.stream(self._read(waiting, in_flight)):
                    yield *in_flight.popleft(), result
            except (FoveateError, MemoryError) as error:
                if not in_flight:  # the pipeline itself fails
                    raise
                # Results come in order, so the oldest image failed. The others start again.
                self.fail(in_flight.popleft()[0], error)
                waiting.extendleft(reversed([file for file, _ in in_flight]))
                in_flight.clear()

    def fail(self, file: Path, error: FoveateError | MemoryError | OSError) -> None:
        """Record that an image failed."""
        if (short := shortage(error)) is not None:
            error = InputError(short.what, file=file, remedy=short.remedy)
        if isinstance(error, OSError):
            what = f"its results cannot be written ({error.strerror or error})"
            error = InputError(what, file=file, remedy="free some space")
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


class OutputNames:
    """Names for the outputs of images in a directory: distinct, and not those of the inputs."""

    def __init__(self, folder: Path, inputs: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._used: set[str] = set()
        for file in inputs:
            with contextlib.suppress(OSError):  # the directory does not exist yet
                if file.parent.samefile(folder):
                    self._used.add(file.name.lower())

    def next(self, source: Path, suffix: str) -> Path:
        """Return ``<stem><suffix>``, or ``<stem>-2<suffix>`` and so on if that is already used."""
        name, number = f"{source.stem}{suffix}", 1
        while name.lower() in self._used:  # some file systems ignore case
            number += 1
            name = f"{source.stem}-{number}{suffix}"
        self._used.add(name.lower())
        return self._folder / name


class Document(Protocol):
    """A growing document with an entry per image."""

    def __len__(self) -> int:
        """Return the number of images."""

    def to_text(self) -> str:
        """Return the content of its file."""


class DocumentFile:
    """Output of a document: a file that is valid at any time, or stdout, written at the end.

    The target is the file, ``-`` for stdout, or None for no output.
    """

    def __init__(self, target: str | None, document: Document) -> None:
        self._target, self._document = target, document
        path = Path(target or "-")
        # A device or a pipe takes one document only; a new file can be replaced as an old one.
        self._updates = target not in (None, "-") and (path.is_file() or not path.exists())
        self._written = 0
        self._cost, self._time = 0.0, time.monotonic()  # of the last write

    def update(self) -> None:
        """Write the file if enough time has passed. A failure is retried by ``finish``."""
        if self._updates and (time.monotonic() - self._time) * _WRITING_SHARE >= self._cost:
            started = time.monotonic()
            with contextlib.suppress(InputError):
                self.finish()
            self._time = time.monotonic()
            self._cost = self._time - started

    def finish(self) -> None:
        """Write the document if it has changed since it was last written."""
        count = len(self._document)
        if self._target == "-":
            if not self._written:
                self._written = 1  # even if it fails: half a document may have been written
                write_stdout(self._document.to_text())
        elif self._target is not None and count > self._written:
            write_file(Path(self._target), self._document.to_text().encode())
            self._written = count


def describe(detections: Detections) -> str:
    """Return the names and scores of the best detections, on one line."""
    best = [f"{one.name} {one.score:.2f}" for one in detections[:6]]
    rest = [f"and {len(detections) - 6} more"] if len(detections) > 6 else []
    return ", ".join([*best, *rest]) or "nothing found"
