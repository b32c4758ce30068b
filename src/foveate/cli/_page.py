# SPDX-License-Identifier: Apache-2.0
"""The page of a run: one HTML file with the results of all its images."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from foveate.errors import OptionError
from foveate.system.files import open_output

if TYPE_CHECKING:
    from foveate.arrays import UInt8Array
    from foveate.cli._files import Batch
    from foveate.page import TimedPipeline
    from foveate.results.detections import Detections
    from foveate.runtime import Pipeline, PipelineOptions

_CHUNK = 1 << 20  # bytes that are copied at a time


class PageFile:
    """The page of a run, to which images are added one at a time; it is written at the end.

    Their records wait in a temporary file, so that memory does not grow with their number, and the
    page can be written at any time, also by another thread.

    Args:
        path: File of the page; None for none.
        score_threshold: Smallest score of the detections that the command reports. The page has
            those of lower scores too, and its slider begins there.

    Attributes:
        is_written: Whether the page was written.

    Raises:
        OptionError: The path is ``-``.
    """

    def __init__(self, path: Path | None, score_threshold: float) -> None:
        if path == Path("-"):
            raise OptionError("a page needs a file, found -", remedy="use a name such as out.html")
        self.is_written = False
        self._path, self._score_threshold = path, score_threshold
        self._timed: TimedPipeline | None = None
        # Closed by `__exit__`.
        self._records = io.BytesIO() if path is None else tempfile.TemporaryFile()  # noqa: SIM115 - see above
        self._size = self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._records:
            self.finish()

    def options(self, options: PipelineOptions) -> PipelineOptions:
        """Return the options of a pipeline that also finds what only the page shows."""
        if self._path is None:
            return options
        from foveate.page import SCORE_THRESHOLD

        return replace(options, score_threshold=min(self._score_threshold, SCORE_THRESHOLD))

    def recorded(self, pipeline: Pipeline) -> Pipeline:
        """Return a pipeline to use in place of another one; if there is a page, it is recorded."""
        if self._path is None:
            return pipeline
        from foveate.page import TimedPipeline

        self._timed = TimedPipeline(pipeline)
        return self._timed.pipeline

    def run(
        self, batch: Batch, pipeline: Pipeline
    ) -> Iterator[tuple[Path, UInt8Array, Detections]]:
        """Add each image of a batch to the page, and yield what ``Batch.run`` yields without one.

        Args:
            batch: The images.
            pipeline: What ``recorded`` returned.
        """
        if self._timed is None:
            yield from batch.run(pipeline)
            return
        from foveate.page import page_record

        for file, image, (findings, stages) in batch.run(self._timed):
            try:
                self._add(
                    page_record(
                        str(file),
                        findings,
                        pipeline.manifest,
                        image=image,
                        stages=stages,
                        score_threshold=self._score_threshold,
                    )
                )
            except (OSError, MemoryError) as error:  # the other results of the image are kept
                batch.fail(file, error)
            yield file, image, findings.detections.filter(score=self._score_threshold)

    def finish(self) -> None:
        """Write the page if images were added since it was last written."""
        size = self._size
        if self._path is None or size == self._written:
            return
        from foveate.page.document import page_end, page_start

        with open_output(self._path) as stream:
            stream.write(page_start().encode())
            for offset in range(0, size, _CHUNK):
                # Unlike seek and read, this leaves the place of `_add` alone.
                count = min(_CHUNK, size - offset)
                stream.write(os.pread(self._records.fileno(), count, offset))
            stream.write(page_end().encode())
        self.is_written, self._written = True, size

    def _add(self, record: dict[str, Any]) -> None:
        from foveate.page.document import page_entry

        entry = page_entry(record).encode()
        self._records.seek(self._size)  # over what was left when a disk was full
        self._records.write(entry)
        self._records.flush()
        self._size += len(entry)
