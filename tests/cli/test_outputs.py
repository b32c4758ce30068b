# SPDX-License-Identifier: Apache-2.0
"""Outputs replace neither an input nor each other, which is checked before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from foveate.cli import invoke
from foveate.cli._files import check_outputs
from foveate.errors import InputError

SAME = "two outputs would be written to the same place"
INPUT = "the output would overwrite an input"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def image() -> str:
    cv2.imwrite("cat.png", np.zeros((120, 160, 3), np.uint8))
    return "cat.png"


def objects(name: str) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": name, "height": 120, "width": 160}],
        "categories": [{"id": 1, "name": "red"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": [[10, 10, 90, 10, 90, 80]],
                "area": 2800,
                "bbox": [10, 10, 80, 70],
                "iscrowd": 0,
            }
        ],
    }


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "found", "--html", "found"),
        ("--output", "found", "--json", "found"),
        ("--output", "found/overlays", "--json", "found"),
        ("--output", "found", "--html", "./found"),
    ],
)
def test_results_of_a_run_have_places_of_their_own(
    words: tuple[str, ...], image: str, contrast_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", image, "--bundle", str(contrast_bundle), *words]) == 1
    assert capsys.readouterr().err.startswith(f"foveate: {SAME}: ")
    assert [path.name for path in Path().iterdir()] == [image]


def test_results_of_a_benchmark_have_places_of_their_own(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "mini", image, "--json", "b", "--html", "b"]) == 1
    assert capsys.readouterr().err.startswith(f"foveate: {SAME}: ")


def test_an_overlay_never_replaces_another_result(image: str, contrast_bundle: Path) -> None:
    words = ["--output", "out", "--json", "out/cat-overlay.jpg", "--bundle", str(contrast_bundle)]
    assert invoke(["run", image, *words]) == 0
    assert json.loads(Path("out/cat-overlay.jpg").read_text())["images"]
    assert cv2.imread("out/cat-2-overlay.jpg") is not None


def test_devices_take_several_outputs() -> None:
    check_outputs(Path("/dev/null"), Path("/dev/null"))


def test_stdout_takes_one_output() -> None:
    with pytest.raises(InputError, match=f"{SAME}: -: choose another file for one of them"):
        check_outputs(Path("-"), Path("-"))


@pytest.fixture
def datasets(image: str) -> dict[str, bytes]:
    """A data set that is a file and one that is a directory; the contents of all files."""
    Path("coco.json").write_text(json.dumps(objects(image)))
    Path("data/images").mkdir(parents=True)
    Path("data/result.json").write_text(json.dumps(objects(image)))
    Path("data/images/cat.png").write_bytes(Path(image).read_bytes())
    Path("link.json").symlink_to("data/result.json")
    return contents()


@pytest.mark.parametrize(
    ("dataset", "output"),
    [
        ("coco.json", "coco.json"),
        ("data", "data/result.json"),
        ("data", "data/images/cat.png"),
        ("data", "link.json"),
    ],
)
def test_no_file_of_a_data_set_is_overwritten(
    dataset: str, output: str, datasets: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["evaluate", "--dataset", dataset, "--json", output]) == 1
    assert f"foveate: {INPUT}: {output}: " in capsys.readouterr().err
    assert contents() == datasets


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "mini", "cat.png", "--json"),
        ("bench", "sweep", "mini", "--json"),
        ("verify", "mini", "--report"),
    ],
)
def test_no_command_overwrites_its_data_set(
    words: tuple[str, ...], datasets: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*words, "coco.json", "--dataset", "coco.json"]) == 1
    assert f"foveate: {INPUT}: coco.json: " in capsys.readouterr().err
    assert contents() == datasets


def test_files_of_labelme_are_inputs(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    shape = {"label": "red", "shape_type": "polygon", "points": [[10, 10], [90, 10], [90, 80]]}
    labels = {"imagePath": image, "imageHeight": 120, "imageWidth": 160, "shapes": [shape]}
    Path("cat.json").write_text(json.dumps(labels))
    before = contents()
    assert invoke(["evaluate", "--dataset", ".", "--json", "cat.json"]) == 1
    assert f"foveate: {INPUT}: " in capsys.readouterr().err
    assert contents() == before


def test_a_trace_does_not_replace_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    Path("keys").write_text("0123456789abcdef\n")
    assert invoke(["serve", "mini", "--key-file", "keys", "--trace", "keys"]) == 1
    assert capsys.readouterr().err.startswith(f"foveate: {INPUT}: keys")
    assert Path("keys").read_text() == "0123456789abcdef\n"


def test_a_complete_run_without_results_replaces_those_of_an_earlier_one(
    contrast_bundle: Path,
) -> None:
    Path("bad.png").write_bytes(b"no image")
    Path("found.json").write_text("earlier")
    words = ["--json", "found.json", "--bundle", str(contrast_bundle)]
    assert invoke(["run", "bad.png", *words]) == 1
    assert json.loads(Path("found.json").read_text())["images"] == []
