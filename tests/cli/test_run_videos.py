# SPDX-License-Identifier: Apache-2.0
"""``foveate run`` on videos: outputs, several sources, failures and interruptions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tests.samples.videos import (
    HEIGHT,
    WIDTH,
    cut,
    gray_images,
    square_images,
    write_sound,
    write_video,
)

from foveate.cli import invoke
from foveate.video import Frames


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Foveate = Callable[..., Outcome]


@pytest.fixture
def foveate(
    tmp_path: Path,
    contrast_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Foveate:
    """Run ``foveate run`` with the contrast bundle in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Outcome:
        status = invoke(["run", *words, "--bundle", str(contrast_bundle)])
        return Outcome(status, *capsys.readouterr())

    return run


def clip(name: str, count: int = 5) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    write_video(Path(name), square_images(count))
    return name


def lines_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def test_a_video_gives_an_overlay_and_a_line_per_frame(foveate: Foveate) -> None:
    outcome = foveate(clip("clip.avi"))
    assert outcome.status == 0
    assert outcome.err == ""
    *frames, last = outcome.out.splitlines()
    assert len(frames) == 5
    assert re.match(r"clip\.avi, frame 3 at 0\.30 s: red \d", frames[3])
    assert re.fullmatch(
        r"clip\.avi: 5 frames read, 5 processed, 0 dropped, 0 broken; age of a result: "
        r"p50 \d+ ms, p95 \d+ ms; overlays in foveate-results/clip-overlay\.webm",
        last,
    )
    assert files() == {"clip.avi", "foveate-results/clip-overlay.webm"}
    with Frames("foveate-results/clip-overlay.webm") as overlay:
        images = [frame.image for frame in overlay]
    assert len(images) == 5
    assert images[0].shape == (HEIGHT, WIDTH, 3)
    assert images[0].max() > 200  # the outline


def test_json_lines_have_times_boxes_and_masks(foveate: Foveate) -> None:
    outcome = foveate(clip("clip.avi"), "--json", "found.jsonl")
    assert outcome.status == 0
    assert files() == {"clip.avi", "found.jsonl"}
    lines = lines_of("found.jsonl")
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["time"] for line in lines] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert {(line["video"], line["width"], line["height"]) for line in lines} == {
        ("clip.avi", WIDTH, HEIGHT)
    }
    first = lines[2]["detections"][0]
    assert (first["category_id"], first["name"]) == (1, "red")
    assert np.abs(np.array(first["bbox"]) - (32, 30, 50, 50)).max() <= 4
    assert first["segmentation"]["size"] == [HEIGHT, WIDTH]
    assert 0.8 < coco_mask.area(first["segmentation"]) / 2500 < 1.2


def test_json_lines_on_stdout_move_the_others_to_stderr(foveate: Foveate) -> None:
    outcome = foveate(clip("clip.avi", 2), "--json", "-", "--output", "out.webm")
    assert outcome.status == 0
    assert [json.loads(line)["frame"] for line in outcome.out.splitlines()] == [0, 1]
    assert outcome.err.startswith("clip.avi, frame 0 at 0.00 s: red")
    assert files() == {"clip.avi", "out.webm"}


def test_several_videos_share_the_json_lines(foveate: Foveate) -> None:
    clip("in/b.avi", 2)
    clip("in/a.webm", 3)
    Path("in/notes.txt").touch()
    outcome = foveate("in", "--json", "found.jsonl", "--output", "out")
    assert outcome.status == 0
    found = [f"{line['video']} {line['frame']}" for line in lines_of("found.jsonl")]
    assert found == ["in/a.webm 0", "in/a.webm 1", "in/a.webm 2", "in/b.avi 0", "in/b.avi 1"]
    assert files() - {"found.jsonl"} == {
        *("in/a.webm", "in/b.avi", "in/notes.txt"),
        *("out/a-overlay.webm", "out/b-overlay.webm"),
    }


def test_a_pattern_stands_for_the_videos_that_match_it(foveate: Foveate) -> None:
    clip("in/a.avi", 1)
    clip("in/b.webm", 1)
    outcome = foveate("in/*.avi", "--json", "found.jsonl")
    assert outcome.status == 0
    assert [line["video"] for line in lines_of("found.jsonl")] == ["in/a.avi"]


def test_latest_drops_frames_and_counts_them(foveate: Foveate) -> None:
    outcome = foveate(clip("clip.avi", 60), "--latest", "--json", "found.jsonl")
    assert outcome.status == 0
    counts = re.search(r"60 frames read, (\d+) processed, (\d+) dropped", outcome.out)
    assert counts is not None
    processed, dropped = map(int, counts.groups())
    assert processed + dropped == 60
    assert len(lines_of("found.jsonl")) == processed < 60


def test_a_video_that_is_cut_off_keeps_its_results(foveate: Foveate) -> None:
    cut(Path(clip("clip.avi", 20)), 0.5)
    outcome = foveate("clip.avi", "--json", "found.jsonl", "--output", "out.webm")
    assert outcome.status == 1
    assert re.fullmatch(
        r"foveate: the video ends at \d\.\d of 2\.0 seconds: clip\.avi: it is cut off: "
        r"copy or download it again\n",
        outcome.err,
    )
    lines = lines_of("found.jsonl")
    with Frames("out.webm") as overlay:
        assert len(list(overlay)) == len(lines) >= 5
    assert outcome.out.splitlines()[-1].endswith("results in found.jsonl; overlays in out.webm")


def test_a_video_that_fails_does_not_stop_the_others(foveate: Foveate) -> None:
    Path("a.mp4").write_text("no video")
    write_sound(Path("b.webm"))
    outcome = foveate("a.mp4", "b.webm", "none.avi", clip("c.avi", 2), "--json", "found.jsonl")
    assert outcome.status == 1
    assert len(lines_of("found.jsonl")) == 2
    no_video = "the file has no video that OpenCV can open"
    assert outcome.err.splitlines() == [
        f"foveate: {no_video}: a.mp4: convert it to WebM, MP4 or AVI",
        f"foveate: {no_video}: b.webm: convert it to WebM, MP4 or AVI",
        "foveate: there is no such file: none.avi: check the path",
        "foveate: 3 of 4 videos failed",
    ]


def test_a_video_without_frames_has_no_results(foveate: Foveate) -> None:
    content = Path(clip("clip.avi")).read_bytes()
    Path("clip.avi").write_bytes(content[: content.index(b"movi") + 4])
    outcome = foveate("clip.avi", "--json", "found.jsonl", "--output", "out")
    assert outcome.out == "clip.avi: 0 frames read, 0 processed, 0 dropped, 0 broken\n"
    assert "the video has no frame that can be decoded: clip.avi" in outcome.err
    assert files() == {"clip.avi"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "clip.avi photo.png",
            "images and videos need commands of their own, found photo.png and clip.avi",
        ),
        (
            "clip.avi --output out.mp4",
            "overlays of a video are written as WebM, found out.mp4: name it .webm",
        ),
        (
            "clip.avi clip.avi --output out.webm",
            "2 videos do not fit into one file, out.webm: pass a directory to --output",
        ),
        (
            "clip.avi --json clip.avi",
            "the output would overwrite an input: clip.avi: choose another file",
        ),
        (
            "clip.avi --output out.webm --json out.webm",
            "two outputs would be written to the same place: ",
        ),
        ("clip.avi --output out --json out", "two outputs would be written to the same place: "),
        ("clip.avi clip.avi --reader vlc", "there is no reader 'vlc': use opencv, pyav"),
        ("camera:73", "there is no such camera, found "),
        ("rtsp://[::1/x", "the URL cannot be opened: rtsp://[::1/x: check "),
        ("photo.png --every", "images take no --every: omit what belongs to videos"),
        ("photo.png --latest --reader opencv", "images take no --latest, --reader: omit "),
        ("photo.png --timeout 10", "images take no --timeout: omit "),
        (
            "clip.avi --timeout 10",
            "a video file that is processed frame by frame takes no --timeout: omit it, or pass a ",
        ),
    ],
)
def test_what_cannot_work_is_refused(foveate: Foveate, words: str, message: str) -> None:
    clip("clip.avi", 1)
    Path("photo.png").touch()
    before = files()
    outcome = foveate(*words.split())
    assert outcome.status == 1
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"foveate: {message}")
    assert files() == before


def test_an_empty_argument_is_not_the_directory_of_videos_here(foveate: Foveate) -> None:
    clip("clip.avi", 1)
    before = files()
    outcome = foveate("")
    assert outcome.status == 1
    assert outcome.err.startswith('foveate: expected the path of an image, found "": check')
    assert files() == before


def test_nothing_but_our_line_is_printed_about_a_bad_file(tmp_path: Path) -> None:
    """In a new process, whose OpenCV and FFmpeg print what no test has silenced."""
    (tmp_path / "text.mp4").write_text("no video")
    write_video(tmp_path / "cut.webm", gray_images(9))
    cut(tmp_path / "cut.webm", 0.9)
    run = subprocess.run(
        [sys.executable, "-m", "foveate", "run", "text.mp4", "cut.webm", "rtsp://127.0.0.1:1/x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("OPENCV_")},
    )
    assert run.returncode == 1
    assert all(line.startswith("foveate: ") for line in run.stderr.splitlines())
    assert len(run.stderr.splitlines()) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_results(
    tmp_path: Path, contrast_bundle: Path, number: int
) -> None:
    write_video(tmp_path / "clip.avi", (image for _ in range(100) for image in square_images(20)))
    words = ["clip.avi", "--json", "found.jsonl", "--output", "out.webm"]
    process = subprocess.Popen(
        [sys.executable, "-m", "foveate", "run", *words, "--bundle", str(contrast_bundle)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(6):
        assert process.stdout.readline().startswith("clip.avi, frame ")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert re.fullmatch(
        r"foveate: interrupted: clip\.avi: \d+ frames read, \d+ processed, 0 dropped, 0 broken; "
        r"age of .* ms; results in found\.jsonl; overlays in out\.webm\n",
        err,
    )
    lines = lines_of(str(tmp_path / "found.jsonl"))
    with Frames(tmp_path / "out.webm") as overlay:
        count = len(list(overlay))
    assert 6 <= count <= len(lines) <= count + 1
    assert not list(tmp_path.glob(".*"))
