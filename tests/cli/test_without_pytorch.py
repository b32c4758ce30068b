# SPDX-License-Identifier: Apache-2.0
"""Commands that a machine without PyTorch runs with the extra `onnx`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.samples.compiling import needs_rtx

ABSENT = ("torch", "onnx_ir", "onnxscript", "safetensors")  # the rest of the extra `export`


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("inspect BUNDLE", None),
        ("verify BUNDLE --reference BUNDLE --report report.json", "report.json"),
        ("triton BUNDLE --output models", "models"),
        pytest.param(
            "compile mini --target tensorrt-rtx --arch sm_89 --stage refine --bucket 2 "
            "--cache cache --output engines",
            "engines/refine-k2.plan",
            marks=needs_rtx,
        ),
    ],
)
def test_a_command_needs_no_pytorch(
    words: str, written: str | None, contrast_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "modules").mkdir()
    for name in ABSENT:
        absent = f"raise ModuleNotFoundError('{name} is absent', name='{name}')\n"
        (tmp_path / "modules" / f"{name}.py").write_text(absent, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path / "modules"), *filter(None, sys.path)])
    arguments = [str(contrast_bundle) if one == "BUNDLE" else one for one in words.split()]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "foveate", *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert written is None or (tmp_path / written).exists()
