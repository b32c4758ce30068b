# SPDX-License-Identifier: Apache-2.0
"""``foveate run`` on videos, cameras and streams."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from foveate.cli._console import lines_with_bar, print_error, print_line, write_stdout
from foveate.cli._files import OutputNames, check_outputs, describe
from foveate.cli._interruption import Interrupted, on_interruption
from foveate.cli._sources import VIDEO_SUFFIXES
from foveate.errors import FoveateError, InputError, MissingExtraError, OptionError
from foveate.plain_text import json_text, portable_name
from foveate.system.files import open_output
from foveate.system.resources import shortage
from foveate.video import Frames, WebmWriter
from foveate.video.opening import check_source, display_name

if TYPE_CHECKING:
    from foveate.results.detections import Detections
    from foveate.runtime import Pipeline
    from foveate.runtime.video import VideoResults
    from foveate.video import Frame

# With --latest, an overlay is repeated until the next one; each repetition is encoded.
_LATEST_RATE = 10.0


@dataclass(frozen=True, kw_only=True)
class VideoRun:
    """What to do with videos.

    Args:
        output: WebM file of one video with overlays, or directory of such files; None for none.
        json: File of JSON lines, ``-`` for stdout, or None.
        policy: Policy of ``Frames``.
        reader: Reader of ``Frames``.
        timeout: Timeout of ``Frames``, in seconds.
    """

    output: Path | None
    json: str | None
    policy: str | None
    reader: str
    timeout: float


def run_videos(
    sources: Sequence[str], run: VideoRun, open_pipeline: Callable[[], Pipeline]
) -> None:
    """Run a pipeline on videos, one after another; one that fails does not stop the others.

    Raises:
        FoveateError: An output cannot be written, or the pipeline cannot be opened.
        typer.Exit: A video failed.
    """
    targets = _check_outputs(sources, run)
    if len(sources) == 1:
        check_source(sources[0])  # before the pipeline is opened, which takes longer
    failures: list[FoveateError] = []
    lines = _JsonLines(run.json)
    try:
        with open_pipeline() as pipeline:
            for source, target in zip(sources, targets, strict=True):
                try:
                    _run_video(pipeline, source, target, run, lines)
                except (OptionError, MissingExtraError):  # every video would fail
                    raise
                except (FoveateError, MemoryError) as error:
                    failures.append(_failure(error, display_name(source)))
    finally:
        lines.close()
    for failure in failures:
        print_error(failure)
    if len(sources) > 1 and failures:
        print_error(f"{len(failures)} of {len(sources)} videos failed")
    if failures:
        raise typer.Exit(1)


def _run_video(
    pipeline: Pipeline, source: str, target: Path | None, run: VideoRun, lines: _JsonLines
) -> None:
    to_stderr = run.json == "-"
    frames = Frames(source, policy=run.policy, reader=run.reader, timeout=run.timeout)
    with pipeline.video(frames) as results:
        every = frames.policy == "every"
        rate = frames.rate if every else min(frames.rate or _LATEST_RATE, _LATEST_RATE)
        writer = None if target is None else WebmWriter(target, rate=rate)

        def save() -> str:
            lines.close()
            if writer is not None:
                writer.close()
            return f"{frames.name}: {_summary(results, target, run)}"

        on_interruption(save, grace=1.0)  # results are saved at any time, so it need not wait
        total = (frames.count or 0) if every else 0
        try:
            with lines_with_bar(total, "Frames", to_stderr=to_stderr) as print_part:
                for frame, detections in results:
                    lines.write(frames.name, frame, detections)
                    if writer is not None:
                        writer.write(detections.draw(frame.image), frame.time)
                    place = f"{frames.name}, frame {frame.index} at {frame.time:.2f} s"
                    print_part(f"{place}: {describe(detections)}")
        finally:
            if writer is not None:
                writer.close()
            if not isinstance(sys.exception(), Interrupted):  # which prints the same
                print_line(f"{frames.name}: {_summary(results, target, run)}", to_stderr=to_stderr)


def _summary(results: VideoResults, target: Path | None, run: VideoRun) -> str:
    if not results.done:  # nothing was written
        return results.summary()
    places = [f"results in {run.json}"] if run.json not in (None, "-") else []
    places += [f"overlays in {target}"] if target is not None else []
    return "; ".join([results.summary(), *places])


def _check_outputs(sources: Sequence[str], run: VideoRun) -> list[Path | None]:
    """Check before the work that the outputs can be written, and return the overlay of each video."""
    inputs = [Path(source) for source in sources]
    lines = Path(run.json) if run.json else None
    if run.output is None:
        check_outputs(lines, inputs=inputs)
        return [None] * len(sources)
    suffix = run.output.suffix.lower()
    if suffix in VIDEO_SUFFIXES and suffix != ".webm":
        what = f"overlays of a video are written as WebM, found {run.output}"
        raise OptionError(what, remedy="name it .webm, and convert it with ffmpeg if you need to")
    if suffix != ".webm":
        check_outputs(lines, inputs=inputs, folder=run.output)
        names = OutputNames(run.output, [*inputs, lines])
        return [names.next(_named(source), "-overlay.webm") for source in sources]
    if len(sources) > 1:
        what = f"{len(sources)} videos do not fit into one file, {run.output}"
        raise OptionError(what, remedy="pass a directory to --output")
    check_outputs(lines, run.output, inputs=inputs)
    return [run.output]


def _named(source: str) -> Path:
    """Return a path whose stem is a file name for a source."""
    if Path(source).suffix.lower() in VIDEO_SUFFIXES and "://" not in source:
        return Path(source)
    words = re.sub(r"[^\w.-]+", "-", display_name(source)).strip("-")
    return Path(f"{words}.webm")


def _failure(error: FoveateError | MemoryError, name: str) -> FoveateError:
    if (short := shortage(error)) is not None:
        return InputError(short.what, file=name, remedy=short.remedy)
    assert isinstance(error, FoveateError)  # a MemoryError is a shortage
    return error if error.file is not None else InputError(f"the video failed ({error})", file=name)


class _JsonLines:
    """A file of one JSON object per frame, which appears at its path when it is closed.

    Args:
        target: Path of the file, ``-`` for stdout, or None for no output.
    """

    def __init__(self, target: str | None) -> None:
        self._target = target
        self._files = ExitStack()
        self._stream: BinaryIO | None = None
        self._lock = threading.Lock()  # an interruption closes it in another thread

    def write(self, name: str, frame: Frame, detections: Detections) -> None:
        """Write the line of a frame.

        Args:
            name: Name of the video.
            frame: The frame.
            detections: Detections in the frame.

        Raises:
            InputError: The file cannot be written.
        """
        if self._target is None:
            return
        line = json_text(_entry(name, frame, detections), compact=True)
        if self._target == "-":
            write_stdout(line)
            return
        with self._lock:
            if self._stream is None:  # not before, so that a run without results replaces no file
                self._stream = self._files.enter_context(open_output(Path(self._target)))
            self._stream.write(line.encode())
            self._stream.flush()

    def close(self) -> None:
        """Move the finished lines to the path, also after an error. Closing twice does nothing."""
        with self._lock:
            self._files.close()


def _entry(name: str, frame: Frame, detections: Detections) -> dict[str, object]:
    _, height, width = detections.masks.shape
    entries = detections.to_coco(0)
    for entry, label in zip(entries, detections.names, strict=True):
        del entry["image_id"]
        entry["name"] = label
    return {
        "video": portable_name(name),
        "frame": frame.index,
        "time": round(frame.time, 6),
        "width": width,
        "height": height,
        "detections": entries,
    }
