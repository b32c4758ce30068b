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
    arguments = [str(contrast_bundle) if one == "BUNDLE" else one for one in words.split()]
    run_without(ABSENT, arguments, tmp_path)
    assert written is None or (tmp_path / written).exists()


@pytest.mark.parametrize("command", ["list", "prune"])
def test_the_cache_of_engines_needs_no_onnx(command: str, tmp_path: Path) -> None:
    run_without((*ABSENT, "onnx"), ["cache", command, "--cache", "cache"], tmp_path)


def run_without(absent_modules: tuple[str, ...], arguments: list[str], tmp_path: Path) -> None:
    """Run a command, which must succeed, where some modules are not installed."""
    (tmp_path / "modules").mkdir()
    for name in absent_modules:
        absent = f"raise ModuleNotFoundError('{name} is absent', name='{name}')\n"
        (tmp_path / "modules" / f"{name}.py").write_text(absent, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path / "modules"), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "foveate", *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
