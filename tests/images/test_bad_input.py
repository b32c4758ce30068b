# SPDX-License-Identifier: Apache-2.0
"""What a user may hand in that is wrong: one line each, and nothing half-written."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from tests.samples.compiling import needs_rtx
from tests.samples.verified_bundles import with_change

from foveate.bundle import Bundle
from foveate.cli import invoke


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


@needs_rtx
@pytest.mark.parametrize(
    "command",
    [
        ["compile", "--target", "tensorrt-rtx", "--stage", "refine"],
        ["inspect"],
        ["triton", "--output"],
    ],
)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (old_opset, "the stage 'refine' has opset 17, expected 18"),
        (foreign_operator, "the stage 'refine' uses unsupported operator domains: com.microsoft"),
    ],
)
def test_a_file_that_is_none_of_ours_is_named_with_the_command_that_fixes_it(
    command: list[str],
    change: Callable[[onnx.ModelProto], None],
    text: str,
    contrast_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = with_change(Bundle.open(contrast_bundle), tmp_path / "broken", "refine", change)
    words = [*command, *([str(tmp_path / "models")] if "triton" in command else [])]
    assert invoke([words[0], str(broken.root), *words[1:]]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"foveate: {text}: {broken.root / 'refine.onnx'}: export the bundle again: foveate export "
        "CHECKPOINT --output BUNDLE"
    )
    assert not (tmp_path / "models").exists()


WRITE = """
import sys
from foveate.bundle import Bundle, write_bundle
bundle = Bundle.open(sys.argv[1])
files = {name: bundle.path(name).read_bytes() for name in bundle.manifest.files}
write_bundle(sys.argv[2], bundle.manifest, files)
"""


@pytest.mark.parametrize(
    ("words", "text", "remedy"),
    [
        (
            ["-m", "foveate", "triton", "BUNDLE", "--output", "OUT"],
            "the model repository cannot be",
            "free some space, or choose another directory",
        ),
        (
            ["-c", WRITE, "BUNDLE", "OUT"],
            "the bundle cannot be written (File too large): ",
            "free some space, or choose another directory",
        ),
        (
            ["-m", "foveate", "inspect", "BUNDLE"],
            "no space is left for a copy of a stage (Protobuf serialization failed.)",
            "free some space, or set TMPDIR to another directory",
        ),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    words: list[str], text: str, remedy: str, contrast_bundle: Path, tmp_path: Path
) -> None:
    """A bound on the size of files, which fails a write as a full disk does."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    places = {"BUNDLE": str(contrast_bundle), "OUT": str(tmp_path / "out")}
    done = subprocess.run(
        [sys.executable, "-P", *(places.get(word, word) for word in words)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=bound,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert text in last
    assert last.endswith(remedy)
    assert list(tmp_path.iterdir()) == []
