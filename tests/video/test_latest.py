# SPDX-License-Identifier: Apache-2.0
"""The latest frame of a source, sources that are lost, and threads that die."""

from __future__ import annotations

import ctypes
import itertools
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.samples.videos import StandIn, gone, gray_images, number_of, write_video

from foveate.arrays import UInt8Array
from foveate.errors import BackendError, InputError
from foveate.video import Frame, FrameReader, Frames, open_reader
from foveate.video.opening import display_name
from foveate.video.reconnecting import ReconnectingReader


def test_a_slow_user_gets_the_latest_frame_and_the_others_are_counted() -> None:
    read = threading.Event()

    def images() -> Iterator[UInt8Array]:
        yield from gray_images(8)
        read.set()

    with Frames(images(), policy="latest") as frames:
        assert read.wait(10)
        numbers = [number_of(frame.image) for frame in frames]
    assert numbers == [7]
    assert (frames.read, frames.dropped) == (8, 7)


def test_a_fast_user_gets_every_frame() -> None:
    taken = threading.Semaphore()

    def images() -> Iterator[UInt8Array]:
        for image in gray_images(5):
            assert taken.acquire(timeout=10)
            yield image

    numbers = []
    with Frames(images(), policy="latest") as frames:
        for frame in frames:
            numbers.append(number_of(frame.image))
            taken.release()
    assert numbers == [0, 1, 2, 3, 4]
    assert frames.dropped == 0


def test_a_camera_gives_the_latest_frame_and_a_file_every_one() -> None:
    assert Frames(StandIn(gray_images(1))).policy == "latest"
    assert Frames(gray_images(1)).policy == "every"
    assert Frames(StandIn(gray_images(1)), policy="every").policy == "every"


def test_frames_that_are_dropped_release_the_camera() -> None:
    camera = StandIn(itertools.repeat(*gray_images(1)))
    for _ in Frames(camera):
        break
    assert camera.closed


def test_an_interpreter_ends_well_while_opencv_reads(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", gray_images(20, 1080, 1920))
    program = "import sys; from foveate.video import Frames; f = Frames(sys.argv[1], policy='latest'); next(f)"
    words = [sys.executable, "-c", program, str(clip)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("policy", ["every", "latest"])
def test_a_frame_that_is_read_while_another_thread_closes_is_the_last_one(policy: str) -> None:
    asked, closed = threading.Event(), threading.Event()

    class Slow(StandIn):
        def read(self) -> Frame | None:
            asked.set()
            assert closed.wait(10)
            assert not self.closed
            return super().read()

    camera = Slow(gray_images(9))
    frames = Frames(camera, policy=policy)
    taken: list[Frame] = []
    thread = threading.Thread(target=lambda: taken.extend(frames))
    thread.start()
    assert asked.wait(10)
    frames.close()
    closed.set()
    thread.join(10)
    assert len(taken) == 1
    assert camera.closed
    assert list(frames) == []


def test_an_error_in_the_thread_is_raised_after_the_frames_before_it() -> None:
    camera = StandIn(gray_images(3), gone())
    with Frames(camera, policy="latest") as frames, pytest.raises(InputError, match="is gone"):
        for _ in frames:
            pass
    assert frames.read == 3
    assert camera.closed


def test_an_error_of_the_users_iterable_is_raised_as_it_is() -> None:
    def images() -> Iterator[UInt8Array]:
        yield from gray_images(2)
        raise ZeroDivisionError

    for policy in ("every", "latest"):
        with Frames(images(), policy=policy) as frames, pytest.raises(ZeroDivisionError):
            list(frames)


def test_a_thread_that_is_killed_is_an_error_and_no_hang() -> None:
    threads: list[int] = []

    def images() -> Iterator[UInt8Array]:
        threads.append(threading.get_ident())
        yield from gray_images(1)
        while True:
            time.sleep(0.01)

    with Frames(images(), policy="latest") as frames:
        next(frames)
        number = ctypes.c_ulong(threads[0])
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(SystemExit))
        with pytest.raises(BackendError, match=r"thread that reads frames has died \(SystemExit"):
            next(frames)


def test_a_thread_that_ends_without_a_word_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveate.video.latest.LatestReader._run", lambda _: None)
    with Frames([], policy="latest") as frames, pytest.raises(BackendError, match="has died"):
        next(frames)


def test_a_source_that_gives_no_frame_is_an_error_after_the_timeout() -> None:
    waiting = threading.Event()

    def images() -> Iterator[UInt8Array]:
        yield from gray_images(1)
        waiting.wait(30)

    with Frames(images(), policy="latest", timeout=0.2) as frames:
        next(frames)
        with pytest.raises(InputError, match="no frame has arrived for 0.2 seconds"):
            next(frames)
        waiting.set()


def reconnecting(
    readers: list[FrameReader | InputError], timeout: float = 5.0
) -> ReconnectingReader:
    waiting = iter(readers)

    def open_next() -> FrameReader:
        following = next(waiting, None) or gone()
        if isinstance(following, InputError):
            raise following
        return following

    return ReconnectingReader(open_next(), open_next, name="camera:0", timeout=timeout)


@pytest.mark.parametrize("error", [None, gone()], ids=["end", "error"])
def test_a_camera_that_was_lost_is_opened_again(error: InputError | None) -> None:
    first = StandIn(gray_images(3), error)
    reader = reconnecting([first, gone(), StandIn(gray_images(2))])
    frames = [reader.read() for _ in range(5)]
    assert first.closed
    numbers = [number_of(frame.image) for frame in frames if frame]
    assert numbers == [0, 1, 2, 0, 1]
    assert [frame.index for frame in frames if frame] == [0, 1, 2, 3, 4]
    times = [frame.time for frame in frames if frame]
    assert times[3] - times[2] > 0.7  # two delays, of 0.25 and 0.5 seconds
    assert times[4] - times[3] == pytest.approx(1 / 30)


def test_delays_between_attempts_double(monkeypatch: pytest.MonkeyPatch) -> None:
    now, delays = [0.0], []

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("foveate.video.reconnecting.time.sleep", sleep)
    monkeypatch.setattr("foveate.video.reconnecting.time.monotonic", lambda: now[0])
    reader = reconnecting([StandIn([])], timeout=30)
    with pytest.raises(InputError, match="no frame has arrived for 30 seconds .the camera is gone"):
        reader.read()
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 6.25]


def test_a_camera_that_vanishes_is_an_error_after_the_timeout() -> None:
    camera = reconnecting([StandIn(gray_images(4), gone())], timeout=0.4)
    with Frames(camera) as frames, pytest.raises(InputError) as caught:
        for _ in frames:
            pass
    assert str(caught.value) == (
        "no frame has arrived for 0.4 seconds (the camera is gone): camera:0: "
        "check the camera and the network, or raise the timeout"
    )
    assert frames.read == 4


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for one in kept:
            one.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_url_that_never_answers_is_an_error_after_the_timeout(
    silent_port: int, scheme: str
) -> None:
    url = f"{scheme}://user:secret@127.0.0.1:{silent_port}/stream"
    with pytest.raises(InputError) as caught:
        open_reader(url, timeout=0.5)
    shown = f"{scheme}://127.0.0.1:{silent_port}/stream"
    assert str(caught.value) == (
        f"the URL does not answer within 0.5 seconds: {shown}: check the address and the network"
    )


def test_a_stream_that_ends_is_opened_again(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.ts", gray_images(20), rate=25).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _address = server.accept()
                with connection:
                    connection.sendall(clip)

        threading.Thread(target=serve, daemon=True).start()
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with Frames(url, policy="every") as frames:
            read = [next(frames) for _ in range(40)]
    assert [number_of(frame.image) for frame in read] == 2 * list(range(20))
    assert [frame.index for frame in read] == list(range(40))
    assert read[20].time - read[19].time > 0.2  # the delay before the first attempt


def test_a_file_behind_a_url_is_read_once(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.webm", gray_images(6))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Frames(f"http://127.0.0.1:{server.server_port}/clip.webm") as frames:
            assert frames.policy == "every"
            assert [number_of(frame.image) for frame in frames] == list(range(6))
        server.shutdown()


@pytest.mark.parametrize("url", ["rtsp://127.0.0.1:1/x", "rtsp://[malformed/x"])
def test_a_url_that_refuses_is_an_error_at_once(url: str) -> None:
    with pytest.raises(InputError, match=f"the URL cannot be opened: {re.escape(url)}: check"):
        open_reader(url)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://me:secret@camera:554/a?b#c", "rtsp://camera:554/a?b#c"),
        ("rtsp://me:se@cret@camera/a", "rtsp://camera/a"),
        ("http://host/clip@2x.mp4?to=a@b", "http://host/clip@2x.mp4?to=a@b"),
        ("http://host?to=a@b", "http://host?to=a@b"),
        ("a@b/clip.mp4", "a@b/clip.mp4"),
    ],
)
def test_a_name_for_people_lacks_the_user_and_the_password(source: str, shown: str) -> None:
    assert display_name(source) == shown


@pytest.mark.parametrize("source", [3, b"clip.webm", None])
def test_what_is_no_video_is_refused(source: object) -> None:
    with pytest.raises(InputError, match="a video must be a path, a URL or an iterable"):
        Frames(source)  # type: ignore[arg-type]  # wrong on purpose


def test_frames_of_the_user_keep_their_numbers_and_times() -> None:
    image = next(gray_images(1))
    given = [Frame(image=image, index=7, time=1.5), Frame(image=image, index=9, time=2.5)]
    assert list(Frames(given)) == given


def check(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_ends_the_thread_and_releases_the_camera() -> None:
    camera = StandIn(gray_images(1_000_000, 2, 2))
    frames = Frames(camera)
    next(frames)
    frames.close()
    check(lambda: camera.closed)
    read = camera.read_so_far
    time.sleep(0.05)
    assert camera.read_so_far == read
