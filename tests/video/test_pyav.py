# SPDX-License-Identifier: Apache-2.0
"""Reading with PyAV: the same frames as with OpenCV, and codecs that OpenCV does not read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

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

from foveate.errors import InputError
from foveate.video import Frame, Frames

av = pytest.importorskip("av", reason="PyAV is not installed (extra video)")


def read_all(path: Path, reader: str = "pyav") -> list[Frame]:
    with Frames(path, reader=reader) as frames:
        return list(frames)


def write_av1(path: Path, count: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, image in enumerate(gray_images(count)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["clip.webm", "clip.avi", "clip.mp4"])
def test_both_readers_give_the_same_frames(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, gray_images(9))
    if name == "clip.mp4":
        turn_clockwise(path)
    if name == "clip.webm":
        retime(path, [0, 33, 90, 400, 500, 600, 610, 700, 1500])
    mine, other = read_all(path), read_all(path, "opencv")
    assert [frame.index for frame in mine] == [frame.index for frame in other]
    assert [frame.time for frame in mine] == pytest.approx([frame.time for frame in other])
    for one, two in zip(mine, other, strict=True):
        assert one.image.shape == two.image.shape
        assert np.abs(one.image.astype(int) - two.image).max() <= 4


def test_a_codec_that_opencv_does_not_read(tmp_path: Path) -> None:
    path = write_av1(tmp_path / "clip.mp4", 5)
    assert [number_of(frame.image) for frame in read_all(path)] == [0, 1, 2, 3, 4]
    with pytest.raises(
        InputError, match="no frame that can be decoded: .*or use the reader 'pyav'"
    ):
        read_all(path, "opencv")


def test_broken_frames_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", gray_images(12))
    break_frames(path, [3, 4, 8])
    with Frames(path, reader="pyav") as frames:
        numbers = [number_of(frame.image) for frame in frames]
        assert frames.broken == 3
    assert numbers == [0, 1, 2, 5, 6, 7, 9, 10, 11]


def test_a_file_that_is_cut_off_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", gray_images(20))
    cut(path, 0.6)
    read: list[Frame] = []
    with (
        Frames(path, reader="pyav") as frames,
        pytest.raises(InputError, match="ends at .* of 2.0 seconds"),
    ):
        read.extend(frames)
    assert 6 <= len(read) <= 14


def test_frames_of_a_file_that_changes_its_size_keep_their_sizes(tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.ts", gray_images(6)).read_bytes()
    second = write_video(tmp_path / "b.ts", gray_images(6, 200, 90)).read_bytes()
    (tmp_path / "both.ts").write_bytes(first + second)
    frames = read_all(tmp_path / "both.ts")
    shapes = [frame.image.shape for frame in frames]
    assert set(shapes) == {(HEIGHT, WIDTH, 3), (200, 90, 3)}
    assert shapes.count((200, 90, 3)) == 6
    times = [frame.time for frame in frames]  # those of the second file begin at 0 again
    assert times == sorted(set(times))


def test_what_is_no_video_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    write_sound(tmp_path / "sound.mp4")
    with pytest.raises(InputError, match="PyAV cannot open the video .*: .*text.mp4: convert it"):
        Frames(tmp_path / "text.mp4", reader="pyav")
    with pytest.raises(InputError, match="the file has no video: .*sound.mp4: pass a video"):
        Frames(tmp_path / "sound.mp4", reader="pyav")
    with pytest.raises(
        InputError, match="PyAV cannot open the video .*: rtsp://127.0.0.1:1/x: check"
    ):
        Frames("rtsp://127.0.0.1:1/x", reader="pyav")
