# SPDX-License-Identifier: Apache-2.0
"""Reading video files with OpenCV: frames, times, rotation, and files that are no good."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.samples.videos import (
    HEIGHT,
    WIDTH,
    break_frames,
    cut,
    gray_images,
    number_of,
    retime,
    turn_clockwise,
    write_sound,
    write_video,
)

from foveate.errors import FoveateError, InputError, MissingExtraError, OptionError
from foveate.video import Frame, Frames, open_reader
from foveate.video.frame import check_complete


def read_all(path: Path) -> list[Frame]:
    with Frames(path) as frames:
        return list(frames)


@pytest.mark.parametrize("name", ["clip.webm", "clip.avi", "clip.mp4"])
def test_every_frame_of_a_file_is_read_with_its_time(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, gray_images(15))
    frames = read_all(path)
    assert [number_of(frame.image) for frame in frames] == list(range(15))
    assert [frame.index for frame in frames] == list(range(15))
    assert [frame.time for frame in frames] == pytest.approx([i / 10 for i in range(15)])
    assert {(frame.image.shape, frame.image.dtype.name) for frame in frames} == {
        ((HEIGHT, WIDTH, 3), "uint8")
    }


def test_frames_are_in_rgb_order(tmp_path: Path) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = (200, 100, 20)
    (frame,) = read_all(write_video(tmp_path / "clip.avi", [image]))
    assert np.abs(frame.image.mean((0, 1)) - (200, 100, 20)).max() < 3


def test_the_rotation_of_the_header_is_applied(tmp_path: Path) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, : WIDTH // 4] = 255  # the left edge, which is at the top after a clockwise turn
    path = write_video(tmp_path / "clip.mp4", [image] * 3)
    turn_clockwise(path)
    frame = read_all(path)[0]
    assert frame.image.shape == (WIDTH, HEIGHT, 3)
    assert frame.image[: WIDTH // 8].mean() > 240
    assert frame.image[WIDTH // 2 :].mean() < 15


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.webm", gray_images(5))
    times = [0, 33, 500, 540, 1900]
    retime(path, times)
    frames = read_all(path)
    assert [round(1000 * frame.time) for frame in frames] == times
    assert [number_of(frame.image) for frame in frames] == list(range(5))


def test_broken_frames_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", gray_images(12))
    break_frames(path, [3, 4, 8])
    with Frames(path) as frames:
        read = list(frames)
        assert (frames.read, frames.broken, frames.dropped) == (9, 3, 0)
    intact = [0, 1, 2, 5, 6, 7, 9, 10, 11]
    assert [number_of(frame.image) for frame in read] == intact
    assert [frame.index for frame in read] == intact


@pytest.mark.parametrize("name", ["clip.webm", "clip.avi"])
def test_a_file_that_is_cut_off_gives_its_frames_and_then_an_error(
    tmp_path: Path, name: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, HEIGHT, WIDTH, 3), np.uint8)
    path = write_video(tmp_path / name, noise)
    cut(path, 0.6)
    read: list[Frame] = []
    message = r"the video ends at .* of 2\.0 seconds: .*: it is cut off: copy or download it again"
    with Frames(path) as frames, pytest.raises(InputError, match=message):
        read.extend(frames)
    assert 6 <= len(read) <= 14


def test_a_last_frame_that_lasts_long_is_not_taken_for_a_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.webm", gray_images(9))
    retime(path, [0, 100, 200, 300, 400, 500, 600, 700, 790])
    assert len(read_all(path)) == 9


@pytest.mark.parametrize(
    ("count", "read", "last", "duration", "whole"),
    [
        (None, 5, 4.0, 5.0, True),  # the last frame lasts as long as the others
        (None, 5, 3.0, 5.0, False),
        (None, 1, 0.0, 0.1, True),
        (None, 1, 0.0, 1.0, False),
        (100, 97, 8.0, 10.0, True),  # the number in a header is inexact
        (100, 96, 8.0, 10.0, False),
    ],
)
def test_the_number_of_frames_or_the_time_shows_whether_a_file_is_cut_off(
    count: int | None, read: int, last: float, duration: float, whole: bool
) -> None:
    reader: Any = SimpleNamespace(count=count, broken=0, rate=10.0)
    with nullcontext() if whole else pytest.raises(InputError, match="it is cut off"):
        check_complete(reader, name="a.webm", read=read, last=last, duration=duration)


def test_frames_of_a_file_that_changes_its_size_have_the_first_size(tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.ts", gray_images(6)).read_bytes()
    second = write_video(tmp_path / "b.ts", gray_images(6, 200, 90)).read_bytes()
    (tmp_path / "both.ts").write_bytes(first + second)
    frames = read_all(tmp_path / "both.ts")
    assert len(frames) >= 11  # the decoder drops the last frame before the change
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


def text(path: Path) -> None:
    path.write_text("This is not a video.\n" * 50)


def sound(path: Path) -> None:
    write_sound(path)


def header(path: Path) -> None:
    write_video(path.with_suffix(".webm"), gray_images(3)).rename(path)
    cut(path, 0.2)


def foreign(path: Path) -> None:
    """A codec that no decoder knows."""
    write_video(path.with_suffix(".avi"), gray_images(3)).rename(path)
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))


@pytest.mark.parametrize("make", [text, sound, header, foreign])
def test_a_file_without_frames_is_one_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(InputError) as caught:
        read_all(path)
    assert str(path) in str(caught.value)
    assert "convert it" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.mp4", "there is no such file: none.mp4: check the path"),
        ("empty.mp4", "the file is empty: empty.mp4: copy or download it again"),
        (".", r"not a regular file: \.: pass a video file"),
        (
            "camera:73",
            "there is no such camera, found .*: camera:73: connect it, or pass a file or a URL",
        ),
        ("camera:front", "a camera is given by its number: camera:front: pass camera:0"),
    ],
)
def test_a_source_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.mp4").touch()
    with pytest.raises(InputError, match=message):
        Frames(source)


def test_a_file_whose_name_looks_like_a_url_of_ffmpeg_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("clip.avi"), gray_images(2)).rename("concat:a|100%d.avi")
    assert len(read_all(Path("concat:a|100%d.avi"))) == 2


def test_names_of_readers_and_policies_are_checked() -> None:
    with pytest.raises(OptionError, match="there is no reader 'vlc': use opencv, pyav"):
        open_reader("clip.webm", reader="vlc")
    with pytest.raises(OptionError, match="only the reader 'opencv' reads cameras: use that one"):
        open_reader("camera:0", reader="pyav")
    with pytest.raises(OptionError, match="there is no policy 'all': use every, latest"):
        Frames([], policy="all")
    with pytest.raises(OptionError, match="timeout must be above 0, found 0"):
        Frames([], timeout=0)
    with pytest.raises(OptionError, match="timeout must be at most 1000000 seconds, found 3e\\+06"):
        Frames([], timeout=3e6)


def test_a_missing_pyav_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = write_video(tmp_path / "clip.avi", gray_images(2))
    with pytest.raises(MissingExtraError, match=r"run: pip install 'foveate\[video\]'") as caught:
        open_reader(path, reader="pyav")
    assert isinstance(caught.value, FoveateError)
