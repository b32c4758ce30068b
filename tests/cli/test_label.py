# SPDX-License-Identifier: Apache-2.0
"""``foveate label``: what it writes, what it leaves alone, and what one bad image does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import pytest
from pycocotools.coco import COCO
from tests.results.test_polygons import iou
from tests.samples.paths import IMAGES

import foveate
from foveate.cli import invoke
from foveate.datasets import CocoDataset

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FAST = ["--preset", "fast"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two small photographs in ``photos``."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("cat.jpg", "flower.jpg"):
        image = cv2.imread(str(IMAGES / name))
        assert image is not None
        cv2.imwrite(f"photos/{name}", cv2.resize(image, (176, 144), interpolation=cv2.INTER_AREA))
    return Path("photos")


def test_labelme_gets_a_file_next_to_each_image(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["label", "photos", "--format", "labelme", "--label", "thing", *FAST]) == 0
    assert capsys.readouterr().out.endswith("the .json files next to the images\n")
    dataset = CocoDataset(photos)
    assert dataset.class_names == ("thing",)
    proposals = foveate.load("mini", preset="fast").propose(photos / "cat.jpg")
    best = dataset.annotations.mask(0).astype(bool)
    assert max(iou(best, mask) for mask in proposals.filter(score=0.25).masks) >= 0.98
    assert sorted(path.suffix for path in photos.iterdir()) == [".jpg", ".jpg", ".json", ".json"]


def test_labelme_files_in_a_directory_name_their_images(photos: Path) -> None:
    assert invoke(["label", "photos", "--format", "labelme", "--output", "a/labels", *FAST]) == 0
    content = json.loads(Path("a/labels/cat.json").read_text())
    assert content["imagePath"] == "../../photos/cat.jpg"
    assert not list(photos.glob("*.json"))


def test_coco_gets_one_file_with_the_classes_of_the_bundle(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", "photos", "--format", "coco", "--what", "detections", "--max-overlap", "1"]
    assert invoke(words) == 0
    assert "objects in 2 images: annotations.json" in capsys.readouterr().out
    truth = COCO("annotations.json")
    detections = foveate.load("mini")(photos / "cat.jpg")
    names = {entry["id"]: entry["name"] for entry in truth.loadCats(truth.getCatIds())}
    assert tuple(names.values()) == detections.class_names
    entries = truth.loadAnns(truth.getAnnIds(imgIds=[1]))
    assert [names[entry["category_id"]] for entry in entries] == detections.names
    for entry, mask in zip(entries, detections.masks, strict=True):
        assert iou(truth.annToMask(entry).astype(bool), mask) >= 0.98
    assert len(CocoDataset(Path("annotations.json"))) == 2
    capsys.readouterr()


def test_options_choose_fewer_objects(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def number(*words: str) -> int:
        command = ["label", "photos/cat.jpg", "--format", "cvat", "--overwrite", *FAST, *words]
        assert invoke(command) == 0
        return int(capsys.readouterr().out.split()[1])

    everything = number("--max-overlap", "1", "--max-objects", "1000", "--score-threshold", "0")
    assert everything > number("--score-threshold", "0") > 3
    assert number("--score-threshold", "0", "--max-objects", "2") == 2
    assert number("--score-threshold", "1") == 0


def test_existing_files_are_left_alone_and_the_others_are_done(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = photos / "cat.json"
    mine.write_text('{"shapes": [], "imagePath": "cat.jpg"}')
    words = ["label", "photos", "--format", "labelme", *FAST]
    assert invoke(words) == 0
    assert mine.read_text() == '{"shapes": [], "imagePath": "cat.jpg"}'
    assert len(json.loads((photos / "flower.json").read_text())["shapes"]) > 0
    said = capsys.readouterr().err
    assert f"1 image has a label file already: {mine}: --overwrite replaces them" in said
    assert invoke([*words, "--overwrite"]) == 0
    assert len(json.loads(mine.read_text())["shapes"]) > 0


def test_files_of_another_tool_are_never_replaced(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "cat.json").write_text('{"annotations": []}')
    words = ["label", "photos", "--format", "labelme", "--overwrite", *FAST]
    assert invoke(words) == 1
    assert (photos / "cat.json").read_text() == '{"annotations": []}'
    assert (photos / "flower.json").is_file()
    remedy = "move it away, or choose another --output"
    line = f"foveate: 1 existing file is not of labelme: {photos / 'cat.json'}: {remedy}\n"
    assert line in capsys.readouterr().err
    Path("annotations.xml").write_text("<html/>")
    assert invoke(["label", "photos", "--format", "cvat", "--overwrite"]) == 1
    assert f"not of cvat: annotations.xml: {remedy}" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "name"), [("coco", "annotations.json"), ("cvat", "my.xml")])
def test_one_file_for_all_is_not_overwritten(
    kind: str, name: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", "photos", "--format", kind, "--output", name, *FAST]
    assert invoke(words) == 0
    first = Path(name).read_bytes()
    capsys.readouterr()
    assert invoke([*words, "--tolerance", "9"]) == 1
    assert capsys.readouterr().err == (
        f"foveate: the file exists: {name}: --overwrite replaces it, --output names another one\n"
    )
    assert Path(name).read_bytes() == first
    assert invoke([*words, "--tolerance", "9", "--overwrite"]) == 0
    assert len(Path(name).read_bytes()) < len(first)


def test_bad_images_do_not_stop_the_others(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.jpg").write_bytes(b"no image")
    shutil.copy(photos / "cat.jpg", photos / "cat.png")
    assert invoke(["label", "photos", "missing.jpg", "--format", "labelme", *FAST]) == 1
    assert {path.name for path in photos.glob("*.json")} == {"cat.json", "flower.json"}
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "foveate: there is no such file: missing.jpg: check the path"
    same = "cat.json can only have the annotations of photos/cat.jpg, not those of photos/cat.png"
    assert lines[1] == f"foveate: {same}: photos: rename one of the images"
    assert lines[2].startswith("foveate: the file is not an image that can be decoded: photos/bad")
    assert lines[3:] == ["foveate: 3 of 5 images failed"]


def test_images_of_one_name_keep_their_directories(photos: Path) -> None:
    Path("more").mkdir()
    shutil.copy(photos / "flower.jpg", "more/cat.jpg")
    assert invoke(["label", "photos", "more", "--format", "cvat", *FAST]) == 0
    images = ET.parse("annotations.xml").getroot().findall("image")  # noqa: S314 - our own document
    assert [one.get("name") for one in images] == [
        "photos/cat.jpg",
        "photos/flower.jpg",
        "more/cat.jpg",
    ]


def test_names_have_no_parent_directories(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("inside").mkdir()
    shutil.copy(photos / "flower.jpg", "inside/cat.jpg")
    monkeypatch.chdir("inside")
    assert invoke(["label", "cat.jpg", "../photos/cat.jpg", "--format", "coco", *FAST]) == 0
    images = json.loads(Path("annotations.json").read_text())["images"]
    assert [one["file_name"] for one in images] == ["inside/cat.jpg", "photos/cat.jpg"]


def test_an_image_that_is_given_twice_is_done_once(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = str(Path("photos/../photos/cat.jpg").absolute())
    words = ["label", "photos/cat.jpg", again, "--max-objects", "1", *FAST]
    assert invoke([*words, "--format", "labelme", "--score-threshold", "0"]) == 0
    assert capsys.readouterr().out.startswith("photos/cat.jpg: 1 object\n1 object in 1 image: ")
    assert invoke([*words, "--format", "coco"]) == 0
    assert len(json.loads(Path("annotations.json").read_text())["images"]) == 1


def test_a_document_can_go_to_stdout(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["label", "photos", "--format", "coco", "--output", "-", *FAST]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["images"]) == 2
    assert "photos/cat.jpg: " in captured.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--format", "voc"], "--format must be labelme, coco or cvat, found 'voc'"),
        (["--format", "coco", "--what", "x"], "--what must be proposals or detections, found 'x'"),
        (
            ["--format", "coco", "--what", "detections", "--label", "a"],
            (
                "--what detections takes no --label: omit it; the labels of detections are the "
                "classes of the bundle"
            ),
        ),
        (["--format", "coco", "--label", " "], "--label is empty: name what the objects are"),
        (
            ["--format", "labelme", "--output", "-"],
            (
                "--output - is stdout, which takes one file, but labelme has one per image: pass a "
                "directory, or another --format"
            ),
        ),
    ],
)
def test_wrong_choices_are_errors(
    words: list[str], text: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["label", "photos", *words]) == 1
    assert capsys.readouterr().err == f"foveate: {text}\n"


def test_an_interruption_keeps_what_is_done(photos: Path) -> None:
    for number in range(40):
        shutil.copy(photos / "cat.jpg", photos / f"{number}.jpg")
    command = [sys.executable, "-m", "foveate", "label", "photos", "--format", "coco", *FAST]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    for _ in range(2):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    done = len(json.loads(Path("annotations.json").read_text())["images"])
    assert 2 <= done < 42
    assert f"interrupted: {done} of 42 images are labeled in annotations.json" in errors
