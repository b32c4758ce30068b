# SPDX-License-Identifier: Apache-2.0
"""The page from one's own images to a bundle does what it says, on six drawings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from tests.samples.drawings import NAMES, best_overlap, draw, write_cvat

import foveate
from foveate.cli import invoke

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "train-your-own.md"

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def commands() -> list[list[str]]:
    blocks = re.findall(
        r"^```console\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("$ foveate ")]


def test_the_page_names_every_command_of_the_way() -> None:
    names = [words[0] for words in commands()]
    assert names == ["train", "export", "inspect", "run", "evaluate", "evaluate"]


@pytest.mark.slow
def test_the_page_leads_from_six_drawings_to_outlines_and_names(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cvat(Path("my-images"), range(6))
    write_cvat(Path("other-images"), range(100, 104))
    for words in commands():
        assert invoke(words) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    assert "1 of 6 images are held out" in told.err
    assert "scores keep the calibration they began with" in caplog.text
    assert len(list(Path("found").iterdir())) == 6
    exact = foveate.load("my-bundle")
    outlined, named = [], []
    for seed in range(1000, 1020):
        image, shapes = draw(seed)
        proposals, detections = exact.propose(image), exact(image)
        for kind, outline in shapes:
            outlined.append(best_overlap(np.asarray(proposals.masks), outline))
            same = detections.labels == detections.class_names.index(NAMES[kind])
            named.append(best_overlap(np.asarray(detections.masks)[same], outline))
    assert np.mean(outlined) > 0.7
    assert np.mean(named) > 0.7
