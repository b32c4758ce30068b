# SPDX-License-Identifier: Apache-2.0
"""The tutorial from one's own images to a bundle works as described, on six drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.docs.blocks import read_blocks, run_document
from tests.samples.drawings import NAMES, best_overlap, draw, write_cvat
from tests.samples.paths import ROOT

import foveate

PAGE = ROOT / "docs" / "tutorial" / "train-your-own.md"

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_page_names_every_command_of_the_way() -> None:
    blocks = [block for block in read_blocks(PAGE) if block.mark == "slow"]
    commands = [command.split()[1] for block in blocks for command, _ in block.commands]
    assert commands == ["train", "export", "inspect", "run", "evaluate", "evaluate"]


@pytest.mark.slow
def test_the_page_leads_from_six_drawings_to_outlines_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cvat(Path("my-images"), range(6))
    write_cvat(Path("other-images"), range(100, 104))
    printed = run_document(PAGE, slow=True)
    assert len(printed) == 4
    assert "1 of 6 images are held out" in printed[0]
    assert "the scores keep their calibration: " in caplog.text
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
