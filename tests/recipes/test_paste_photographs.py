# SPDX-License-Identifier: Apache-2.0
"""The script that pastes photographs: both parts, and what it refuses before it writes anything."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from paste_photographs import main
from tests.samples.outlined_photographs import IMAGES, write_photographs

from compose import CLASS_NAMES
from foveate.datasets import find_splits

# pycocotools' own arrays lack the argument `copy` of NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    words = ["paste_photographs.py", *map(str, arguments), "--workers", "0"]
    monkeypatch.setattr(sys, "argv", words)
    main()


def read(part: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((part / "annotations.json").read_text(encoding="utf-8"))
    return content


def test_both_parts_have_the_new_classes_and_can_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path / "coco")
    run(monkeypatch, folder, "--output", tmp_path / "out")
    splits = find_splits(tmp_path / "out")
    assert splits.train.class_names == CLASS_NAMES
    assert len(splits.train) == 12 * 3  # of the photographs that have annotations
    assert splits.validation is not None
    assert splits.validation.class_names == CLASS_NAMES


def test_validation_photographs_and_masks_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path / "coco")
    run(monkeypatch, folder, "--output", tmp_path / "out", "--images", "1")
    part = tmp_path / "out" / "validation"
    for name in IMAGES:
        assert (part / "images" / name).read_bytes() == (folder / "val2017" / name).read_bytes()
    file = folder / "annotations" / "instances_val2017.json"
    before, after = json.loads(file.read_text(encoding="utf-8")), read(part)
    assert [one["file_name"] for one in after["images"]] == list(IMAGES)
    names = [CLASS_NAMES[one["category_id"] - 1] for one in after["annotations"]]
    assert names == ["person", "plant", "person", "person", "animal"]
    for one in before["annotations"] + after["annotations"]:
        del one["category_id"]
    assert after["annotations"] == before["annotations"]


def test_the_same_seed_gives_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path / "coco")
    for name, seed in (("one", "5"), ("two", "5"), ("other", "6")):
        words = ("--output", tmp_path / name, "--images", "4", "--seed", seed)
        run(monkeypatch, folder, *words)
    files = {
        name: [file.read_bytes() for file in sorted((tmp_path / name).rglob("*.*"))]
        for name in ("one", "two", "other")
    }
    assert files["one"] == files["two"] != files["other"]


def test_a_broken_photograph_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_photographs(tmp_path / "coco", parts=("train",))
    (folder / "train2017" / "person.png").write_bytes(b"no image")
    run(monkeypatch, folder, "--output", tmp_path / "out", "--images", "6")
    shown = {one["background"] for one in read(tmp_path / "out" / "train")["images"]}
    assert shown == {"plant.png", "crowd.png"}
    assert not (tmp_path / "out" / "validation").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda folder: shutil.rmtree(folder / "annotations"), "the layout of the data set is"),
        (
            lambda folder: (folder / "annotations" / "instances_train2017.json").unlink(),
            "no part to train with, only val",
        ),
    ],
)
def test_a_folder_in_another_layout_is_refused(
    change: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path / "coco")
    change(folder)
    with pytest.raises(SystemExit, match=f"paste_photographs.py: .*{text}"):
        run(monkeypatch, folder, "--output", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_the_layout_of_labelme_has_no_supercategories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path / "coco")
    points = [[20, 20], [80, 20], [50, 90]]
    shapes = [{"label": "person", "points": points, "shape_type": "polygon"}]
    content = {"shapes": shapes, "imagePath": "person.png", "imageHeight": 120, "imageWidth": 160}
    file = folder / "train2017" / "person.json"
    file.write_text(json.dumps({"version": "5.0.0", **content}), encoding="utf-8")
    with pytest.raises(SystemExit, match="the layout labelme has no supercategories"):
        run(monkeypatch, folder / "train2017", "--output", tmp_path / "out")


@pytest.mark.parametrize("part", ["train", "val"])
def test_an_unknown_category_of_either_part_is_found_before_anything_is_written(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path / "coco")
    file = folder / "annotations" / f"instances_{part}2017.json"
    text = file.read_text(encoding="utf-8").replace('"animal"', '"toys"')
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=f"the supercategory 'toys'.*instances_{part}2017.json"):
        run(monkeypatch, folder, "--output", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_an_output_that_exists_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit, match="the output exists: .*out: delete it or name another one"):
        run(monkeypatch, "nowhere", "--output", tmp_path / "out")


def test_a_number_out_of_range_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "nowhere", "--output", "out", "--images", "0")
    assert "expected at least 1, got 0" in capsys.readouterr().err
