# SPDX-License-Identifier: Apache-2.0
"""A frame, the protocol of what reads frames, and the check that a file was read to its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol, runtime_checkable

from foveate.errors import InputError

# Share of a video, and number of frames, that may be missing at its end: headers are inexact.
_MISSING_SHARE, _MISSING_FRAMES = 0.02, 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Frame:
    """A frame of a video.

    Args:
        image: (H, W, 3) uint8 RGB, upright. A frame of the user's own iterable may be any other
            image that ``Pipeline`` takes, such as an array in the memory of a GPU.
        index: Number of the frame in its source, from 0; dropped and broken frames count.
        time: Time in seconds by the clock of the stream, from 0 at its beginning.
        arrived: When the frame was read, in seconds of ``time.monotonic``.
    """

    image: Any
    index: int
    time: float
    arrived: float = field(default_factory=monotonic)


@runtime_checkable
class FrameReader(Protocol):
    """Reads the frames of one source, in order. One thread at a time uses it."""

    @property
    def live(self) -> bool:
        """Whether the source goes on while nobody reads, as a camera does."""

    @property
    def rate(self) -> float | None:
        """Nominal number of frames per second; None if unknown."""

    @property
    def count(self) -> int | None:
        """Number of frames according to the source; None if unknown."""

    @property
    def broken(self) -> int:
        """Number of frames so far that could not be decoded and were skipped."""

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end.

        Raises:
            InputError: The source ends too early, or does not answer.
        """

    def close(self) -> None:
        """Release the source. Closing twice does nothing."""


def check_complete(
    reader: FrameReader, *, name: str, read: int, last: float, duration: float | None
) -> None:
    """Check at the end of a file that it was not cut off.

    A frame may last longer than others, so the time alone does not show it if the number of frames
    is known.

    Args:
        reader: Reader that has reached the end.
        name: Name of the file.
        read: Number of frames that were read.
        last: Time of the last frame in seconds.
        duration: Length of the video in seconds according to its header; None if unknown.

    Raises:
        InputError: The file has no frame, or ends before the time of its header.
    """
    if not read:
        what, remedy = "the video has no frame that can be decoded", "convert it to another codec"
        raise InputError(what, file=name, remedy=f"{remedy}, or use the reader 'pyav'")
    interval = 1 / reader.rate if reader.rate else 0.0  # of a single frame
    if read > 1:
        interval = last / (read - 1)
    found, end = read + reader.broken, last + interval
    fewer = reader.count is None or found < reader.count * (1 - _MISSING_SHARE) - _MISSING_FRAMES
    margin = _MISSING_FRAMES * end / found
    if fewer and duration is not None and end < duration * (1 - _MISSING_SHARE) - margin:
        what = f"the video ends at {end:.1f} of {duration:.1f} seconds"
        raise InputError(what, file=name, remedy="it is cut off: copy or download it again")
