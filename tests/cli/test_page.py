# SPDX-License-Identifier: Apache-2.0
"""`foveate run --html`, and the page of `foveate demo`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.samples.images import square_image
from tests.samples.paths import CAT

from foveate.cli import invoke
from foveate.cli._files import Batch
from foveate.cli._page import PageFile

RECORD = re.compile(
    rb'<script type="application/json" class="record"[^>]*>(.*?)</script>', re.DOTALL
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path,
    contrast_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run `foveate run` with the contrast bundle in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = invoke(["run", *words, "--bundle", str(contrast_bundle)])
        return status, *capsys.readouterr()

    return run


def write_image(name: str, box: tuple[int, int, int, int] = (50, 30, 100, 80)) -> str:
    assert cv2.imwrite(name, square_image(120, 160, box)[..., ::-1])
    return name


def records(file: str | Path = "out.html") -> list[dict[str, Any]]:
    return [json.loads(text) for text in RECORD.findall(Path(file).read_bytes())]


def test_the_page_has_every_image_and_nothing_else_is_written(run: Run) -> None:
    images = [write_image("a.png"), write_image("b.png", (10, 20, 40, 50))]
    status, out, err = run(*images, "--html", "out.html")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "The page is out.html"
    assert sorted(map(str, Path().iterdir())) == ["a.png", "b.png", "out.html"]
    found = records()
    assert [one["name"] for one in found] == images
    for one, box in zip(found, [(50, 30, 100, 80), (10, 20, 40, 50)], strict=True):
        assert np.abs(np.array(one["detections"][0]["box"]) - box).max() <= 3
        assert len(one["proposals"]) > len(one["detections"])
        assert one["score_threshold"] == 0.25
        assert list(one["stages"]) == ["propose", "refine", "features", "classify", "other"]
        assert min(one["stages"].values()) > 0


def test_a_page_changes_no_other_output(run: Run) -> None:
    image = write_image("a.png")
    run(image, "--json", "alone.json", "--output", "alone")
    run(image, "--json", "found.json", "--output", "found", "--html", "out.html")
    assert Path("alone.json").read_bytes() == Path("found.json").read_bytes()
    overlays = [Path(folder, "a-overlay.jpg").read_bytes() for folder in ("alone", "found")]
    assert overlays[0] == overlays[1]


def test_the_page_has_lower_scores_than_the_command_reports(run: Run) -> None:
    words = ["--html", "out.html", "--json", "found.json", "--score-threshold", "0.6"]
    assert invoke(["run", str(CAT.with_name("coffee.jpg")), *words]) == 0
    reported = json.loads(Path("found.json").read_text())["annotations"]
    (record,) = records()
    scores = [one["score"] for one in record["detections"]]
    assert min(one["score"] for one in reported) >= 0.6 == record["score_threshold"]
    assert 0.05 <= min(scores) < 0.3
    assert len([score for score in scores if score >= 0.6]) == len(reported) < len(scores)


def test_bad_images_do_not_lose_the_page(run: Run) -> None:
    Path("bad.png").write_bytes(b"no image")
    status, _, err = run(
        write_image("a.png"), "bad.png", write_image("c.png"), "--html", "out.html"
    )
    assert status == 1
    assert "bad.png" in err
    assert [one["name"] for one in records()] == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("-", "foveate: a page needs a file, found -: use a name such as out.html\n"),
        ("a.png", "foveate: the output would overwrite an input: a.png: choose another file\n"),
        ("a.png/out.html", "foveate: the file cannot be written (Not a directory)"),
    ],
)
def test_a_bad_path_is_refused_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    monkeypatch.setattr(Batch, "run", None)
    status, out, err = run(write_image("a.png"), "--html", target)
    assert (status, out) == (1, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_videos_have_no_page(run: Run) -> None:
    status, _, err = run("film.mp4", "--html", "out.html")
    assert status == 1
    assert err == "foveate: --html takes images, found the video film.mp4: omit --html\n"


def test_json_on_stdout_stays_json(run: Run) -> None:
    _, out, err = run(write_image("a.png"), "--html", "out.html", "--json", "-")
    assert len(json.loads(out)["images"]) == 1
    assert err.splitlines()[-1] == "The page is out.html"


def test_an_old_page_is_replaced_only_by_a_new_one(run: Run) -> None:
    Path("out.html").write_text("old")
    Path("bad.png").write_bytes(b"no image")
    run("bad.png", "--html", "out.html")
    assert Path("out.html").read_text() == "old"
    run(write_image("a.png"), "--html", "out.html")
    assert len(records()) == 1


def test_an_interrupted_run_keeps_the_page_of_what_was_done(
    tmp_path: Path, contrast_bundle: Path
) -> None:
    images = tmp_path / "in"
    images.mkdir()
    write_image(str(images / "000.png"))
    for index in range(1, 200):
        (images / f"{index:03}.png").hardlink_to(images / "000.png")
    words = ["run", "in", "--bundle", str(contrast_bundle), "--html", "out.html"]
    process = subprocess.Popen(
        [sys.executable, "-m", "foveate", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("in/000.png: ")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    found = records(tmp_path / "out.html")
    assert process.returncode == 130
    assert 1 <= len(found) < 200
    assert err.startswith("foveate: interrupted: ")
    assert err.endswith(" of 200 images done, page in out.html\n")
    assert (tmp_path / "out.html").read_bytes().rstrip().endswith(b"</html>")
    assert not list(tmp_path.rglob(".*"))


def test_an_image_for_which_the_disk_is_full_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, sizes = PageFile._add, iter([True, False])

    def add(page: PageFile, record: dict[str, Any]) -> None:
        if next(sizes):
            page._records.write(b"half a record")
            raise OSError(28, "No space left on device")
        original(page, record)

    monkeypatch.setattr(PageFile, "_add", add)
    status, out, err = run(write_image("a.png"), write_image("b.png"), "--html", "out.html")
    assert status == 1
    assert out.splitlines()[0].startswith("a.png: red")
    assert "No space left on device" in err or "no space is left" in err
    assert [one["name"] for one in records()] == ["b.png"]


def test_the_demo_writes_a_page_beside_the_overlays(
    tmp_path: Path,
    contrast_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_image(str(tmp_path / "one.jpg"))
    write_image(str(tmp_path / "two.jpg"))
    monkeypatch.setattr("foveate.cli.demo.IMAGES", tmp_path)
    output = tmp_path / "out"
    assert invoke(["demo", "--output", str(output), "--bundle", str(contrast_bundle)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"See the results in a browser: {output / 'index.html'}"
    assert len(records(output / "index.html")) == 2
    assert {one.name for one in output.iterdir()} == {
        "index.html",
        "one-overlay.jpg",
        "two-overlay.jpg",
    }
