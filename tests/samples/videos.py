# SPDX-License-Identifier: Apache-2.0
"""Video files that tests write, and readers that stand in for cameras."""

from __future__ import annotations

import re
import struct
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tests.samples.images import square_image

from foveate.arrays import UInt8Array
from foveate.errors import InputError
from foveate.video import Frame

HEIGHT, WIDTH, RATE = 120, 160, 10.0
_CODECS = {".webm": "VP80", ".avi": "MJPG", ".mp4": "mp4v", ".ts": "MPG2"}
_STEP = 12  # gray levels between two frames, which compression does not blur


def gray_images(count: int, height: int = HEIGHT, width: int = WIDTH) -> Iterator[UInt8Array]:
    """Yield images whose gray level gives their number."""
    return (np.full((height, width, 3), _STEP * i, np.uint8) for i in range(count))


def number_of(image: UInt8Array) -> int:
    return round(float(image.mean()) / _STEP)


def square_images(count: int) -> Iterator[UInt8Array]:
    """Yield images of a red square that moves to the right, 40 times by a pixel."""
    lefts = (30 + i % 40 for i in range(count))
    return (square_image(HEIGHT, WIDTH, (left, 30, left + 50, 80)) for left in lefts)


def write_video(path: Path, images: Iterable[UInt8Array], *, rate: float = RATE) -> Path:
    """Write RGB images as VP8, MJPEG or MPEG-4, depending on the suffix."""
    writer = None
    codec = cv2.VideoWriter.fourcc(*_CODECS[path.suffix])
    for image in images:
        if writer is None:
            size = (image.shape[1], image.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, rate, size)
            assert writer.isOpened()
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert writer is not None
    writer.release()
    return path


def turn_clockwise(path: Path) -> None:
    """Let the header of an MP4 ask for a quarter turn, as that of a phone held upright does."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    one, last = 1 << 16, 1 << 30
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, last)
    path.write_bytes(content)


def retime(path: Path, milliseconds: list[int]) -> None:
    """Give the frames of a WebM other times. It has one cluster, and ``RATE`` frames per second."""
    content = bytearray(path.read_bytes())
    for number, time in reversed(list(enumerate(milliseconds))):
        old = struct.pack(">h", round(number * 1000 / RATE))
        # A simple block: its id, its size in 1, 2, 4 or 8 bytes, the track, and the time.
        blocks = re.finditer(
            b"\xa3.{1,8}?\x81" + re.escape(old) + b"[\x00\x80]", content, re.DOTALL
        )
        end = next(blocks).end()
        content[end - 3 : end - 1] = struct.pack(">h", time)
    path.write_bytes(content)


def break_frames(path: Path, numbers: Iterable[int]) -> None:
    """Overwrite frames of an MJPEG AVI with zeros."""
    content = bytearray(path.read_bytes())
    start = content.index(b"movi")  # the header has one, too
    chunks = [match.start() for match in re.finditer(b"00dc", content) if match.start() > start]
    for number in numbers:
        data = chunks[number] + 8
        (size,) = struct.unpack_from("<I", content, data - 4)
        content[data : data + size] = bytes(size)
    path.write_bytes(content)


def cut(path: Path, share: float) -> None:
    """Keep only the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def write_sound(path: Path) -> Path:
    """Write a second of noise, as a WAV whatever the suffix."""
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(np.random.default_rng(0).integers(0, 1 << 15, 8000, np.int16).tobytes())
    return path


class StandIn:
    """A camera: it gives a list of frames, and is then lost, or raises an error.

    Args:
        images: Its frames.
        error: What it raises instead of its end.
    """

    live, rate, count = True, 30.0, None

    def __init__(self, images: Iterable[UInt8Array], error: BaseException | None = None) -> None:
        self._images, self._error = iter(images), error
        self.read_so_far = self.broken = 0
        self.closed = False

    def read(self) -> Frame | None:
        image = next(self._images, None)
        if image is None:
            if self._error is not None:
                raise self._error
            return None
        self.read_so_far += 1
        return Frame(image=image, index=self.read_so_far - 1, time=self.read_so_far / 30)

    def close(self) -> None:
        self.closed = True


def gone() -> InputError:
    return InputError("the camera is gone", remedy="connect it")
