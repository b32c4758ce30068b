# SPDX-License-Identifier: Apache-2.0
"""Several data sets for `mini`: their classes, their validation parts, and what each one teaches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.samples.training import silent, write_dataset

from foveate.cli import invoke
from foveate.datasets import CocoDataset
from foveate.models.checkpoint import CascadeInfo, build_cascade
from foveate.training.loop import LoopOptions
from foveate.training.mini.recipe import Recipe
from foveate.training.mini.regions import RegionOptions
from foveate.training.mini.train import train_classifier

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Training without the work; it notes the data sets that it gets."""
    found: dict[str, Any] = {}

    def train(
        datasets: list[CocoDataset],
        output: Path,
        recipe: object,
        progress: object,
        extra: list[CocoDataset],
        initial: object,
    ) -> Path:
        found.update(datasets=datasets, recipe=recipe, extra=extra)
        return output

    def calibrate(_: Path, dataset: CocoDataset, **__: object) -> None:
        found.update(validation=dataset)

    monkeypatch.setattr("foveate.training.mini.train.train_cascade", train)
    monkeypatch.setattr("foveate.training.mini.score_calibration.calibrate", calibrate)
    return found


def change(part: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the annotations of a part in place."""
    file = part / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def turn_around(content: dict[str, Any]) -> None:
    """List the classes in the other order, with other ids."""
    content["categories"] = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
    for annotation in content["annotations"]:
        annotation["category_id"] = 3 - annotation["category_id"]


def without_squares(content: dict[str, Any]) -> None:
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] == 1]


def folders(tmp_path: Path) -> tuple[Path, Path]:
    return write_dataset(tmp_path / "one"), write_dataset(tmp_path / "two", images=6)


def test_all_data_sets_get_the_labels_of_the_first(tmp_path: Path, seen: dict[str, Any]) -> None:
    one, two = folders(tmp_path)
    change(two / "train", turn_around)
    words = ["train", "--dataset", str(one), "--dataset", str(two), "--output", str(tmp_path / "r")]
    assert invoke([*words, "--extra-dataset", str(two), "--extra-dataset", str(one)]) == 0
    assert [dataset.class_names for dataset in seen["datasets"]] == [("disc", "square")] * 2
    assert [one.label for one in seen["datasets"][1].instances(0)] == [0, 1]
    assert [len(dataset) for dataset in seen["extra"]] == [6, 4]


def test_the_first_validation_part_calibrates_with_the_labels_of_the_first_data_set(
    tmp_path: Path, seen: dict[str, Any]
) -> None:
    one, two = folders(tmp_path)
    shutil.copytree(two / "train", two / "validation")
    for part in ("train", "validation"):
        change(two / part, turn_around)
    words = ["train", "--dataset", str(one), "--dataset", str(two), "--output", str(tmp_path / "r")]
    assert invoke(words) == 0
    assert [len(dataset) for dataset in seen["datasets"]] == [4, 6]
    assert seen["validation"].file == two / "validation" / "annotations.json"
    assert seen["validation"].class_names == ("disc", "square")


def test_steps_follow_from_the_images_of_all_data_sets(
    tmp_path: Path, seen: dict[str, Any]
) -> None:
    one, two = folders(tmp_path)
    words = ["train", "--dataset", str(one), "--dataset", str(two), "--output", str(tmp_path / "r")]
    assert invoke(words) == 0
    assert seen["recipe"].cache.views_per_image == 12  # 120 views of 10 images


def test_a_class_that_the_first_data_set_lacks_is_named(
    tmp_path: Path, seen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = folders(tmp_path)
    change(two / "train", lambda content: content["categories"][1].update(name="box"))
    words = ["train", "--dataset", str(one), "--dataset", str(two), "--output", str(tmp_path / "r")]
    assert invoke(words) == 1
    error = capsys.readouterr().err
    assert "the first data set lacks the classes box" in error
    assert str(two) in error
    assert not seen


def test_a_class_without_an_object_ends_before_any_work(
    tmp_path: Path, seen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = folders(tmp_path)
    change(one / "train", without_squares)
    words = ["train", "--dataset", str(one), "--output", str(tmp_path / "r")]
    assert invoke(words) == 1
    error = capsys.readouterr().err
    assert "no training image has an object of the classes square: " in error
    assert "add a data set that has some, or remove the classes" in error
    assert not seen
    assert invoke([*words, "--dataset", str(two)]) == 0


def test_a_full_size_network_learns_from_one_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--network", "deepmask-resnet50", "--output", str(tmp_path / "r")]
    assert invoke([*words, "--dataset", "one", "--dataset", "two"]) == 1
    error = capsys.readouterr().err
    assert "expected one --dataset for deepmask-resnet50, got 2: merge them" in error


@pytest.mark.slow
def test_the_classifier_learns_from_images_of_each_data_set(tmp_path: Path) -> None:
    datasets = [CocoDataset(folder / "train") for folder in folders(tmp_path)]
    recipe = Recipe(
        regions=RegionOptions(short_side=64, long_side=96, images=5),
        multipathnet=LoopOptions(steps=1),
    )
    torch.manual_seed(0)
    proposals = build_cascade(CascadeInfo(proposals="sharpmask-mini"))
    cascade = train_classifier(datasets, proposals, tmp_path / "run", recipe, silent)
    assert cascade.info.class_names == ("disc", "square")
    assert cascade.info.training["MultiPathNet"] == "1 steps on proposals of 5 images"
    found = [len(list((tmp_path / "run" / f"regions-{n}").glob("*.npz"))) for n in (0, 1)]
    assert found == [2, 3]
