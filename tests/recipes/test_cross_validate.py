# SPDX-License-Identifier: Apache-2.0
"""The script that cross-validates mini: how it divides photographs, and what it measures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cross_validate import Fold, join_parts, main, measure
from tests.samples.outlined_photographs import write_photographs

from foveate.bundle import Bundle
from foveate.datasets import CocoDataset, find_parts
from foveate.export.to_onnx.bundle_weights import exact_cascade_from_bundle
from foveate.models.checkpoint import save_checkpoint

# pycocotools' own arrays lack the argument `copy` of NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_each_photograph_is_held_out_once_and_never_trained_on_then(tmp_path: Path) -> None:
    whole = join_parts(write_photographs(tmp_path / "coco", parts=("train",)), tmp_path / "whole")
    folds = [Fold.of(whole, number, 2, tmp_path / str(number)) for number in range(2)]
    held_out = [name for fold in folds for name in fold.held_out.annotations.files]
    assert sorted(held_out) == sorted(whole.annotations.files)
    for fold in folds:
        names = {*fold.others.annotations.files, *fold.held_out.annotations.files}
        assert len(names) == len(whole) == len(fold.others) + len(fold.held_out)


def test_parts_are_joined_with_all_their_images_and_objects(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "coco", parts=("train",))
    whole = join_parts(folder, tmp_path / "whole")
    part = CocoDataset(find_parts(folder)["train"])
    assert whole.annotations.files == part.annotations.files
    np.testing.assert_array_equal(whole.annotations.boxes, part.annotations.boxes)
    np.testing.assert_array_equal(whole.image(0), part.image(0))


def test_images_of_the_same_name_in_both_parts_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path / "coco")
    words = ["cross_validate.py", str(folder), "--output", str(tmp_path / "out"), "--", "--seed=0"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match=r"cross_validate.py: .*both parts have an image"):
        main()
    assert not (tmp_path / "out" / "photographs").exists()


@pytest.mark.parametrize("only", [["0"], ["0", "0"], ["0", "5"]])
def test_one_fold_and_one_that_does_not_exist_are_refused(
    only: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [
        "cross_validate.py",
        "coco",
        "--output",
        str(tmp_path),
        "--only",
        *only,
        "--",
        "--seed=0",
    ]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        main()
    assert "expected two or more folds from 0 to 4, got" in capsys.readouterr().err


@pytest.mark.slow
def test_all_photographs_are_measured_together(tmp_path: Path) -> None:
    whole = join_parts(write_photographs(tmp_path / "coco", parts=("train",)), tmp_path / "whole")
    folds = [Fold.of(whole, number, 2, tmp_path / str(number)) for number in range(2)]
    for fold in folds:  # in place of a training
        fold.checkpoint.parent.mkdir(parents=True)
        save_checkpoint(fold.checkpoint, exact_cascade_from_bundle(Bundle.open("mini")))
    figures = measure(folds, whole, tmp_path)
    assert figures["proposals"]["dataset"]["images"] == len(whole)
    assert figures["detections"]["dataset"]["objects"] == len(whole.annotations)
    shown = figures["shown"]
    assert 0 <= shown["overlap_an_object"] <= shown["detections"]
