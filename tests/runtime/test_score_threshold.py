# SPDX-License-Identifier: Apache-2.0
"""One score threshold for Python, the commands and Triton."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import foveate
from foveate.cli import demo, invoke
from foveate.cli.run import command as run
from foveate.cli.verify import command as verify
from foveate.export.checks.verification import measure
from foveate.export.triton import write_repository
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD


def test_the_default_threshold_is_the_same_wherever_there_is_one() -> None:
    assert DEFAULT_SCORE_THRESHOLD == 0.25
    assert foveate.PipelineOptions().score_threshold == DEFAULT_SCORE_THRESHOLD
    for function in (run, verify, measure, write_repository):
        assert (
            inspect.signature(function).parameters["score_threshold"].default
            == DEFAULT_SCORE_THRESHOLD
        )


def test_run_finds_the_cat_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["run", str(demo.IMAGES / "cat.jpg")]) == 0
    assert "cat.jpg: animal 0." in capsys.readouterr().out
