# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_running_a_bundle_needs_neither_torch_nor_onnx(contrast_bundle: Path) -> None:
    loaded = modules_after(
        "import numpy, foveate.runtime, foveate.cli.run\n"
        f"pipeline = foveate.runtime.load({str(contrast_bundle)!r})\n"
        "pipeline(numpy.zeros((40, 50, 3), numpy.uint8)).draw(numpy.zeros((40, 50, 3), 'u1'))"
    )
    assert not loaded & {"torch", "onnx", "onnxscript", "safetensors", "scipy"}


def test_the_package_itself_imports_nothing_heavy() -> None:
    loaded = modules_after("import foveate")
    assert not loaded & {"numpy", "cv2", "onnxruntime", "typer", "rich", "torch"}


@pytest.mark.parametrize(
    "module", ["foveate.runtime", "foveate.bundle", "foveate.results.detections"]
)
def test_parts_do_not_import_onnxruntime_before_it_is_needed(module: str) -> None:
    assert "onnxruntime" not in modules_after(f"import {module}")
