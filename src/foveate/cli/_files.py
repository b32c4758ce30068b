# SPDX-License-Identifier: Apache-2.0
"""Files of the commands: batches of images; checks, names and COCO documents of the outputs."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from foveate.arrays import UInt8Array
from foveate.cli._console import print_line, write_stdout
from foveate.cli._sources import VIDEO_SUFFIXES
from foveate.errors import FoveateError, InputError
from foveate.images.decoding import SUFFIXES as IMAGE_SUFFIXES
from foveate.images.reading import find_images, read_image
from foveate.system.files import check_writable, write_file
from foveate.system.resources import remedy_of, shortage

if TYPE_CHECKING:
    from foveate.results.detections import Detections

Result_co = TypeVar("Result_co", covariant=True)
# Largest share of the time since a COCO file was last written that the next write may take.
_WRITING_SHARE = 0.05
_STDOUT = Path("-")


def check_folder(path: Path | None) -> None:
    """Check before the work that files can be written to a directory, which may not exist yet."""
    if path is not None:
        try:
            check_writable(path / "output")  # any name; nothing is written
        except InputError as error:
            raise InputError(error.what, file=path, remedy=error.remedy) from error
        if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not path.is_dir():
            what = "expected a directory for the outputs, found the name of an image or a video"
            raise InputError(what, file=path, remedy="choose a name without such a suffix")


def check_outputs(
    *outputs: Path | None, inputs: Iterable[Path | None] = (), folder: Path | None = None
) -> None:
    """Check before the work that outputs can be written, and replace no input and no other output.

    Args:
        outputs: Files; None for no output, and ``-`` for stdout, which can always be written.
        inputs: Files that are read; None for no input.
        folder: Directory of further outputs, which may not exist yet.
    """
    check_folder(folder)
    files = [path for path in outputs if path is not None and path != _STDOUT]
    for path in files:
        check_writable(path)
    identities = {_identity(path) for path in inputs if path is not None} - {None}
    for path in files:
        if _identity(path) in identities:
            what = "the output would overwrite an input"
            raise InputError(what, file=path, remedy="choose another file")
    # Devices and pipes, such as /dev/null, may get several outputs.
    places = [path.resolve() for path in files if path.is_file() or not path.exists()]
    places += [_STDOUT] * outputs.count(_STDOUT)
    folders = [] if folder is None else [folder.resolve()]
    for one, other in itertools.permutations([*places, *folders], 2):
        if one == other or (one in places and one in other.parents):
            what = "two outputs would be written to the same place"
            raise InputError(what, file=one, remedy="choose another file for one of them")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what identifies an existing file by any of its names."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def write_result(target: str | Path, text: str) -> None:
    """Write a result to a file, or to stdout if the target is ``-``."""
    if str(target) == "-":
        write_stdout(text)
    else:
        write_file(Path(target), text.encode())


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
            error = InputError(what, file=file, remedy=remedy_of(error, "choose another path"))
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
    """Names for the outputs of images in a directory: distinct, and not those of other files.

    Args:
        folder: The directory, which may not exist yet.
        others: Inputs and other outputs; None for none.
    """

    def __init__(self, folder: Path, others: Iterable[Path | None] = ()) -> None:
        self._folder, place = folder, folder.resolve()
        self._used = {
            file.name.lower()
            for file in others
            if file is not None and file.parent.resolve() == place
        }

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

    def finish(self, *, complete: bool = False) -> None:
        """Write the document if it has changed since it was last written.

        Args:
            complete: Whether all images were processed. A document without images then replaces
                that of an earlier run; one of a run that was interrupted does not.
        """
        count = len(self._document)
        stale = complete and not count and Path(self._target or "").is_file()
        if self._target == "-":
            if not self._written:
                self._written = 1  # even if it fails: half a document may have been written
                write_stdout(self._document.to_text())
        elif self._target is not None and (count > self._written or stale):
            write_file(Path(self._target), self._document.to_text().encode())
            self._written = count


def describe(detections: Detections) -> str:
    """Return the names and scores of the best detections, on one line."""
    best = [f"{one.name} {one.score:.2f}" for one in detections[:6]]
    rest = [f"and {len(detections) - 6} more"] if len(detections) > 6 else []
    return ", ".join([*best, *rest]) or "nothing found"
