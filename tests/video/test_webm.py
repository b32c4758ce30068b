# SPDX-License-Identifier: Apache-2.0
"""Written videos: times, sizes, what stays after a failure, and that a browser plays them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from tests.samples.videos import HEIGHT, WIDTH, gray_images, number_of

from foveate.errors import InputError
from foveate.video import Frames, WebmWriter
from foveate.video.quiet import discarded_stderr

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def write(path: Path, times: list[float], *, rate: float | None = 10.0) -> None:
    writer = WebmWriter(path, rate=rate)
    for image, time in zip(gray_images(len(times)), times, strict=True):
        writer.write(image, time)
    writer.close()


def numbers(path: Path) -> list[int]:
    with Frames(path) as frames:
        return [number_of(frame.image) for frame in frames]


def test_images_at_a_constant_rate_are_written_once_each(tmp_path: Path) -> None:
    write(tmp_path / "new" / "clip.webm", [i / 10 for i in range(8)])
    assert numbers(tmp_path / "new" / "clip.webm") == list(range(8))
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["clip.webm"]


def test_an_image_is_repeated_until_the_time_of_the_next(tmp_path: Path) -> None:
    write(tmp_path / "clip.webm", [5.0, 5.1, 5.5, 5.52, 5.6])  # the fourth lasts too short
    assert numbers(tmp_path / "clip.webm") == [0, 1, 1, 1, 1, 3, 4]


def test_the_length_is_that_of_the_times_at_any_rate(tmp_path: Path) -> None:
    times = [0.0, 0.033, 0.5, 0.54, 1.9]
    for rate in (None, 12.5, 29.97, 240.0):
        write(tmp_path / "clip.webm", times, rate=rate)
        with Frames(tmp_path / "clip.webm") as frames:
            *_, last = frames
        assert last.time == pytest.approx(1.9, abs=1 / 12)


def test_images_of_another_size_are_scaled_to_fit(tmp_path: Path) -> None:
    writer = WebmWriter(tmp_path / "clip.webm", rate=10)
    writer.write(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), 0.0)
    writer.write(np.full((2 * HEIGHT, WIDTH, 3), 200, np.uint8), 0.1)  # half as wide when it fits
    writer.close()
    with Frames(tmp_path / "clip.webm") as frames:
        first, second = (frame.image for frame in frames)
    assert first.shape == second.shape == (HEIGHT, WIDTH, 3)
    assert second[:, WIDTH // 2 - 15 : WIDTH // 2 + 15].mean() > 190
    assert second[:, : WIDTH // 4 - 5].mean() < 10


def test_without_an_image_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    path.write_bytes(b"old")
    WebmWriter(path).close()
    assert path.read_bytes() == b"old"


def test_the_file_appears_when_the_writer_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    writer = WebmWriter(path, rate=10)
    writer.write(next(gray_images(1)), 0.0)
    assert not path.exists()
    closing = threading.Thread(target=writer.close)  # as an interruption does
    closing.start()
    closing.join()
    writer.close()
    assert numbers(path) == [0]
    with pytest.raises(ValueError, match="the writer is closed"):
        writer.write(next(gray_images(1)), 0.1)


def test_a_folder_that_takes_no_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer = WebmWriter(tmp_path / "file" / "clip.webm")
    with pytest.raises(InputError, match="the file cannot be written .*: choose another path"):
        writer.write(next(gray_images(1)), 0.0)
    writer.close()


def test_a_video_that_opencv_does_not_write_leaves_nothing(tmp_path: Path) -> None:
    writer = WebmWriter(tmp_path / "clip.txt")
    with pytest.raises(InputError, match="OpenCV cannot write a video of 160 x 120 pixels") as held:
        writer.write(np.zeros((120, 160, 3), np.uint8), 0.0)
    assert not list(tmp_path.iterdir()), held
    writer.close()


def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond 8 kB."""
    (tmp_path / "clip.webm").write_bytes(b"old")
    code = """
import resource, signal, numpy
from pathlib import Path
from foveate.video import WebmWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
writer = WebmWriter(Path("clip.webm"))
for number in range(12):
    noise = numpy.random.default_rng(number).integers(0, 256, (120, 160, 3), numpy.uint8)
    writer.write(noise, number / 10)
try:
    writer.close()
except Exception as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout == "the video cannot be written completely: clip.webm: free some space\n"
    assert run.stderr == ""
    assert (tmp_path / "clip.webm").read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["clip.webm"]


def test_threads_that_discard_stderr_at_the_same_time_restore_it() -> None:
    kept, before = os.dup(2), os.fstat(2)
    left = threading.Event()

    def work() -> None:
        with discarded_stderr():
            assert left.wait(10)

    thread = threading.Thread(target=work)
    with discarded_stderr():
        thread.start()
        thread.join(0.2)  # it would discard what is discarded already
    left.set()
    thread.join(10)
    after = os.fstat(2)
    os.dup2(kept, 2)
    os.close(kept)
    assert os.path.samestat(before, after)


def test_a_browser_plays_the_video_for_its_whole_length(tmp_path: Path, browser: Browser) -> None:
    picture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), (9, 9), 0
    )
    writer = WebmWriter(tmp_path / "clip.webm", rate=10)
    for number, time in enumerate((0.0, 0.1, 0.2, 0.7, 1.4)):
        writer.write(np.roll(picture, 9 * number, 1), time)
    writer.close()
    (tmp_path / "page.html").write_text("<video src=clip.webm muted></video>")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("document.querySelector('video').readyState >= 2", timeout=30_000)
    facts = page.evaluate(
        """async () => {
            const video = document.querySelector('video')
            await video.play()
            await new Promise(done => video.onended = done)
            return [video.duration, video.currentTime, video.videoWidth, video.error]
        }"""
    )
    page.close()
    duration, played, width, error = facts
    assert duration == pytest.approx(1.5, abs=0.01)
    assert (played, width, error) == (duration, WIDTH, None)
