# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.samples.images import write_small_cat
from tests.samples.verified_bundles import small_bundle

from foveate.cli import invoke
from foveate.runtime.loading import BACKENDS

HEIGHT, WIDTH = 120, 160


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
    """Run `foveate run` with the contrast bundle in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, bundle: Path = contrast_bundle) -> Outcome:
        status = invoke(["run", *words, "--bundle", str(bundle)])
        return Outcome(status, *capsys.readouterr())

    return run


def photograph(path: str, color: tuple[int, int, int] = (255, 0, 0)) -> str:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[30:80, 50:100] = color[::-1]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(path, image)
    return path


def files_below(root: str) -> set[str]:
    return {str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file()}


def test_one_image(foveate: Foveate) -> None:
    outcome = foveate(photograph("square.png"))
    assert outcome.status == 0
    assert outcome.out.startswith("square.png: red ")
    assert outcome.out.endswith(f"-> {Path('foveate-results/square-overlay.jpg')}\n")
    assert outcome.err == ""
    overlay = cv2.imread("foveate-results/square-overlay.jpg")
    assert overlay is not None
    assert overlay.shape == (HEIGHT, WIDTH, 3)
    assert files_below("foveate-results") == {"square-overlay.jpg"}


def test_nothing_found_is_a_result(foveate: Foveate) -> None:
    cv2.imwrite("black.png", np.zeros((40, 50, 3), np.uint8))
    outcome = foveate("black.png", "--json", "found.json")
    assert outcome.status == 0
    assert outcome.out == "black.png: nothing found\n"
    content = json.loads(Path("found.json").read_text())
    assert content["annotations"] == []
    assert content["images"] == [{"id": 1, "file_name": "black.png", "width": 50, "height": 40}]


def test_json_alone_writes_no_overlays(foveate: Foveate) -> None:
    outcome = foveate(photograph("square.png"), "--json", "new/found.json")
    assert outcome.status == 0
    assert files_below(".") == {"square.png", str(Path("new/found.json"))}
    content = json.loads(Path("new/found.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["red", "green", "blue"]
    first = content["annotations"][0]
    assert first["id"] == first["image_id"] == first["category_id"] == 1
    assert np.abs(np.array(first["bbox"]) - (50, 30, 50, 50)).max() <= 3


def test_json_on_stdout_moves_the_lines_to_stderr(foveate: Foveate) -> None:
    outcome = foveate(photograph("square.png"), "--json", "-", "--output", "out")
    assert outcome.status == 0
    assert len(json.loads(outcome.out)["images"]) == 1
    assert outcome.err.startswith("square.png: red")
    assert files_below("out") == {"square-overlay.jpg"}


def test_files_of_a_folder_that_are_ignored_are_one_line_on_stderr(foveate: Foveate) -> None:
    photograph("in/a.png")
    Path("in/b.heic").touch()
    Path("in/c.HEIC").touch()
    outcome = foveate("in")
    assert outcome.status == 0
    assert outcome.err == "left out: 2 .heic in in\n"


def test_warnings_of_pillow_are_not_printed(tmp_path: Path, contrast_bundle: Path) -> None:
    broken = b"Exif\0\0II*\0\x08\0\0\0\xff\0\x12\x01"
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "odd.jpg", exif=broken)
    command = ["-c", "from foveate.cli import main; main()", "run", "odd.jpg", "--bundle"]
    done = subprocess.run(
        [sys.executable, *command, str(contrast_bundle)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_a_folder_is_processed_in_the_order_of_names(foveate: Foveate) -> None:
    photograph("in/b.png", (0, 255, 0))
    photograph("in/a.jpg")
    photograph("in/c.png", (0, 0, 255))
    Path("in/notes.txt").write_text("milk")
    outcome = foveate("in")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert [line.rpartition(" -> ")[0][:-5] for line in lines] == [
        f"{Path('in/a.jpg')}: red",
        f"{Path('in/b.png')}: green",
        f"{Path('in/c.png')}: blue",
    ]


def test_images_of_one_name_get_overlays_of_different_names(foveate: Foveate) -> None:
    images = [photograph(p) for p in ("one/cat.png", "two/cat.jpg", "two/Cat.png", "cat-2.png")]
    assert foveate(*images, "--output", "out").status == 0
    assert files_below("out") == {
        "cat-overlay.jpg", "cat-2-overlay.jpg", "Cat-3-overlay.jpg", "cat-2-2-overlay.jpg",
    }  # fmt: skip


def test_bad_images_are_listed_and_the_others_are_processed(foveate: Foveate) -> None:
    good = [photograph(f"{i}.png") for i in range(3)]
    Path("empty.jpg").touch()
    Path("text.jpg").write_text("milk and bread " * 50)
    cut = Path(photograph("cut.jpg"))
    cut.write_bytes(cut.read_bytes()[:-300])
    Path("nothing").mkdir()
    bad = ["gone.jpg", "empty.jpg", "text.jpg", "cut.jpg", "nothing"]
    mixed = [bad[0], good[0], bad[1], bad[2], good[1], bad[3], bad[4], good[2]]
    outcome = foveate(*mixed, "--json", "found.json", "--output", "out")
    assert outcome.status == 1
    assert [line.split(":")[0] for line in outcome.out.splitlines()] == good
    *lines, last = outcome.err.splitlines()
    assert last == "foveate: 5 of 8 images failed"
    assert len(lines) == 5
    for name in bad:
        (line,) = (line for line in lines if f": {name}: " in line)
        assert line.startswith("foveate: ")
    assert len(json.loads(Path("found.json").read_text())["images"]) == 3
    assert files_below("out") == {f"{i}-overlay.jpg" for i in range(3)}


def test_one_bad_image_is_one_line_and_leaves_nothing(foveate: Foveate) -> None:
    outcome = foveate("gone.jpg", "--json", "found.json", "--output", "out")
    assert outcome == (1, "", "foveate: there is no such file: gone.jpg: check the path\n")
    assert files_below(".") == set()
    assert not Path("out").exists()


def test_pytorch_finds_what_onnx_runtime_finds(foveate: Foveate) -> None:
    bundle, image = small_bundle(Path("small")).root, str(write_small_cat(Path("cat.png")))
    found = []
    for backend in ("onnxruntime", "torch"):
        words = ["--device", "cpu", "--backend", backend, "--json", f"{backend}.json"]
        words += ["--score-threshold", "0"]
        assert foveate(image, *words, bundle=bundle).status == 0
        found.append(json.loads(Path(f"{backend}.json").read_text())["annotations"])
    scores = [[one["score"] for one in annotations] for annotations in found]
    assert len(scores[0]) > 0
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "gpu"], "there is no device 'gpu': use auto, cpu"),
        (["--backend", "trt"], f"there is no backend 'trt': use {', '.join(BACKENDS)}, torch"),
    ],
)
def test_invalid_choices_are_one_line(foveate: Foveate, words: list[str], message: str) -> None:
    outcome = foveate(photograph("square.png"), *words)
    assert outcome.status == 1
    assert outcome.err.startswith(f"foveate: {message}")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [[], ["a.png", "--score-threshold", "2"], ["a.png", "--top-k", "0"], ["a.png", "--nonsense"]],
)
def test_wrong_usage_has_status_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", *words]) == 2
    assert "Usage: foveate run" in capsys.readouterr().err


def test_a_damaged_bundle_is_one_line(foveate: Foveate, contrast_bundle: Path) -> None:
    copy = Path("copy")
    copy.mkdir()
    for file in contrast_bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "refine.onnx").write_bytes((copy / "refine.onnx").read_bytes()[:-1] + b"?")
    outcome = foveate(photograph("square.png"), bundle=copy)
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "was changed" in outcome.err
    assert "refine.onnx" in outcome.err
    assert not Path("foveate-results").exists()


def test_a_bundle_that_only_proposes_is_one_line(foveate: Foveate, proposing_bundle: Path) -> None:
    outcome = foveate(photograph("square.png"), bundle=proposing_bundle)
    assert outcome.status == 1
    assert "has no stage 'classify'" in outcome.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(foveate: Foveate) -> None:
    Path("locked").mkdir(mode=0o500)
    outcome = foveate(photograph("square.png"), "--output", "locked")
    assert outcome.status == 1
    assert "cannot be written (Permission denied)" in outcome.err


def test_an_output_that_is_a_file_is_one_line(foveate: Foveate) -> None:
    Path("taken").touch()
    outcome = foveate(photograph("square.png"), "--output", "taken")
    assert outcome.status == 1
    assert outcome.err.startswith("foveate: the file cannot be written (")
    assert "): taken: choose another path" in outcome.err


@pytest.mark.parametrize("output", ["out.png", "out.webm"])
def test_overlays_of_images_are_not_put_in_a_directory_named_like_a_file(
    foveate: Foveate, output: str
) -> None:
    outcome = foveate(photograph("square.png"), "--output", output)
    assert outcome.status == 1
    assert outcome.err == (
        "foveate: expected a directory for the outputs, found the name of an image or a video: "
        f"{output}: choose a name without such a suffix\n"
    )
    assert files_below(".") == {"square.png"}


def test_images_that_failed_are_listed_even_if_an_output_fails(foveate: Foveate) -> None:
    Path("bad.png").write_bytes(b"no image")
    outcome = foveate(photograph("square.png"), "bad.png", "--json", "/dev/full")
    assert outcome.status == 1
    bad, count, full = outcome.err.splitlines()
    assert bad.startswith("foveate: the file is not an image that can be decoded: bad.png: ")
    assert count == "foveate: 1 of 2 images failed"
    assert full.startswith("foveate: the file cannot be written (No space left on device): ")


def test_debug_shows_where_an_error_comes_from(foveate: Foveate) -> None:
    from foveate.errors import OptionError

    with pytest.raises(OptionError):
        foveate(photograph("square.png"), "--device", "gpu", "--debug")


def test_a_failed_write_leaves_the_old_file(
    foveate: Foveate, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph("square.png")
    assert foveate("square.png").status == 0
    before = Path("foveate-results/square-overlay.jpg").read_bytes()

    def broken(self: Path, target: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", broken)
    outcome = foveate("square.png")
    assert outcome.status == 1
    assert "No space left on device" in outcome.err
    assert files_below("foveate-results") == {"square-overlay.jpg"}
    assert Path("foveate-results/square-overlay.jpg").read_bytes() == before


def test_the_command_as_a_process(contrast_bundle: Path, tmp_path: Path) -> None:
    photograph(str(tmp_path / "square.png"))
    command = [sys.executable, "-m", "foveate", "run", "--bundle", str(contrast_bundle)]
    done = subprocess.run(
        [*command, "square.png", "gone.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("square.png: red")
    assert done.stderr.splitlines()[-1] == "foveate: 1 of 2 images failed"
