# SPDX-License-Identifier: Apache-2.0
"""The results of videos as JSON lines: one object per frame."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from foveate.cli._console import write_stdout
from foveate.plain_text import json_text, portable_name
from foveate.system.files import open_output

if TYPE_CHECKING:
    from foveate.results.detections import Detections
    from foveate.video import Frame


class JsonLines:
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
