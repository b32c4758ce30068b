# SPDX-License-Identifier: Apache-2.0
"""Daemon threads inside native code when the interpreter exits, which would abort the process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.samples.videos import gray_images, write_video

from foveate.system import native_code as native

DAEMONS = """
import sys, threading, time
from pathlib import Path
import numpy as np
from foveate.images.reading import read_image
from foveate.results.saving import write_overlay
from foveate.video import Frames

folder, noise = Path(sys.argv[2]), np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)

def video():
    with Frames(folder / "video.avi", policy="every") as frames:
        sum(1 for _ in frames)

WORK = {
    "video": video,
    "webp": lambda: read_image(folder / "image.webp"),
    "overlay": lambda: write_overlay(folder / f"{threading.get_ident()}.png", noise.copy()),
}

def work_for_ever():
    while True:
        WORK[sys.argv[1]]()

for _ in range(2):
    threading.Thread(target=work_for_ever, daemon=True).start()
time.sleep(0.3)
"""


@pytest.mark.parametrize("work", ["video", "webp", "overlay"])
def test_a_daemon_thread_inside_opencv_does_not_abort_the_process(
    tmp_path: Path, work: str
) -> None:
    write_video(tmp_path / "video.avi", gray_images(20, 480, 640))
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.webp")
    for _ in range(3):  # a few leave OpenCV just in time
        words = [sys.executable, "-c", DAEMONS, work, str(tmp_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_exit_waits_for_the_threads_inside_and_lets_none_in() -> None:
    gate, entered, leave, late = native._Gate(), threading.Event(), threading.Event(), []

    def work() -> None:
        with gate.passed(), gate.passed():  # entering twice does not count
            entered.set()
            leave.wait(20)
        with gate.passed():
            late.append("entered")

    threading.Thread(target=work, daemon=True).start()
    entered.wait(20)
    threading.Timer(0.2, leave.set).start()
    begin = time.monotonic()
    gate.close()
    assert time.monotonic() - begin >= 0.2
    time.sleep(0.1)
    assert late == []
    with gate.passed():  # in an exit handler
        pass


def test_the_exit_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_LONGEST_WAIT_S", 0.1)
    gate, entered, leave = native._Gate(), threading.Event(), threading.Event()

    def block() -> None:
        with gate.passed():
            entered.set()
            leave.wait(20)

    threading.Thread(target=block, daemon=True).start()
    entered.wait(20)
    begin = time.monotonic()
    gate.close()
    leave.set()
    assert time.monotonic() - begin < 10


FORKED = """
import os, threading, time
from foveate.system.native_code import native_code

def work():
    with native_code():
        time.sleep(3)

threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
begin = time.monotonic()
if os.fork() == 0:
    import atexit
    atexit._run_exitfuncs()
    os._exit(time.monotonic() - begin > 2)
print(os.wait()[1])
os._exit(0)
"""


def test_a_forked_child_does_not_wait_for_the_threads_of_its_parent() -> None:
    words = [sys.executable, "-W", "ignore", "-c", FORKED]
    assert subprocess.check_output(words, text=True, timeout=60) == "0\n"
