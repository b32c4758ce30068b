# SPDX-License-Identifier: Apache-2.0
"""The option ``--tiles``. The working image of the bundle has 256 pixels at most."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from tests.samples.images import square_image

from foveate.cli import invoke

SMALL = (240, 40, 288, 88)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    assert cv2.imwrite("large.png", square_image(500, 900, SMALL)[:, :, ::-1])
    return "large.png"


def test_a_small_object_of_a_large_image_is_found_in_a_tile(
    image: str, contrast_bundle: Path
) -> None:
    found = {}
    for tiles in ("off", "auto", "256"):
        words = ["run", image, "--bundle", str(contrast_bundle), "--tiles", tiles]
        assert invoke([*words, "--json", f"{tiles}.json"]) == 0
        found[tiles] = json.loads(Path(f"{tiles}.json").read_text())["annotations"]
    assert found["off"] == found["auto"] == []  # 900 pixels are less than 4 times 256
    (only,) = found["256"]
    left, top, width, height = only["bbox"]
    assert (left, top, left + width, top + height) == pytest.approx(SMALL, abs=2)


def test_a_small_object_of_a_large_image_is_labeled(image: str, contrast_bundle: Path) -> None:
    words = ["label", image, "--bundle", str(contrast_bundle), "--format", "coco"]
    found = {}
    for tiles in ("off", "256"):
        output = ["--what", "detections", "--output", f"{tiles}.json"]
        assert invoke([*words, *output, "--tiles", tiles]) == 0
        found[tiles] = json.loads(Path(f"{tiles}.json").read_text())["annotations"]
    assert found["off"] == []
    left, top, width, height = found["256"][0]["bbox"]
    assert (left, top, left + width, top + height) == pytest.approx(SMALL, abs=8)


def test_the_recall_of_tiles_is_evaluated(image: str, contrast_bundle: Path) -> None:
    left, top, right, bottom = SMALL
    square = [[left, top, right, top, right, bottom, left, bottom]]
    content = {
        "images": [{"id": 1, "file_name": image, "height": 500, "width": 900}],
        "categories": [{"id": 1, "name": "red"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": square, "iscrowd": 0}
        ],
    }
    Path("annotations.json").write_text(json.dumps(content), encoding="utf-8")
    recall = []
    for tiles in ("off", "256"):
        words = ["evaluate", str(contrast_bundle), "--dataset", ".", "--proposals", "--top-k", "20"]
        assert invoke([*words, "--replicates", "5", "--tiles", tiles, "--json", "found.json"]) == 0
        figures = json.loads(Path("found.json").read_text(encoding="utf-8"))["figures"]
        recall.append(figures["mask AR@10"]["value"])
    assert recall[1] > recall[0] + 0.2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--tiles", "many"],
            "--tiles must be auto, off, or the side of a tile in pixels, found 'many'",
        ),
        (["--tiles", "40"], "foveate: --tiles must be at least 64, found 40"),
        (
            ["--tile-overlap", "9"],
            "foveate: --tile-overlap needs tiles, found --tile-overlap=9, --tiles='off'",
        ),
        (
            ["--tiles", "256", "--tile-overlap", "200"],
            "foveate: --tile-overlap must be at most 128, half of the side of the tiles, found 200",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_before_the_work(
    image: str,
    contrast_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    text: str,
) -> None:
    bundle = str(contrast_bundle)
    for command in (
        ["run", image, "--bundle", bundle],
        ["label", image, "--bundle", bundle, "--format", "labelme"],
    ):
        assert invoke([*command, *words]) == 1
        assert text in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in Path().iterdir()] == [image]
