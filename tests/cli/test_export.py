# SPDX-License-Identifier: Apache-2.0
"""Options of ``foveate export`` that are refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.cli import invoke


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--calibration .", "--precision fp32 takes no --calibration: omit what belongs to a "),
        ("--calibration-method percentile", "--precision fp32 takes no --calibration-method: "),
        (
            "--precision refine=fp16 --calibration photo.png --max-quantization-error 0.5",
            "--precision refine=fp16 takes no --max-quantization-error: ",
        ),
        ("--precision paste=fp16", "expected stage=precision for a stage not listed yet, found "),
        ("--optimize fold-encoder,fold-encoder", "the pass 'fold-encoder' is given twice: "),
        ("--optimize fold-encoder,fold", "there is no pass 'fold': use some of fold-conv1x1, "),
        ("--name a\nb", r"the name of a bundle must be printable, found 'a\nb': pass a --name "),
        ("--max-side 1000000000", "--max-side must lie in 16..131072, found 1000000000"),
    ],
)
def test_options_that_cannot_work_are_refused_before_the_export(
    words: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.png").touch()
    monkeypatch.setattr("foveate.export.bundle_export.export_bundle", pytest.fail)
    assert invoke(["export", "mini", "--output", "bundle", *words.split(" ")]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"foveate: {message}")
    assert [one.name for one in Path().iterdir()] == ["photo.png"]
