# SPDX-License-Identifier: Apache-2.0
"""Errors of ONNX Runtime in a line that a user can read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.samples.verified_bundles import with_change

from foveate.bundle import Bundle
from foveate.errors import BundleError
from foveate.runtime import load
from foveate.runtime.engines.onnxruntime_session import first_line, open_session

REMEDY = "export the bundle again: foveate export CHECKPOINT --output BUNDLE, or update onnxruntime"


def unknown_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Unheard"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (unknown_opset, "ONNX Runtime only *guarantees* support for models stamped with"),
        (unknown_operator, "This is an invalid model. In Node, "),
    ],
)
def test_a_stage_that_onnx_runtime_refuses_is_named_in_a_readable_line(
    change: object, text: str, contrast_bundle: Path, tmp_path: Path
) -> None:
    assert callable(change)
    broken = with_change(Bundle.open(contrast_bundle), tmp_path / "broken", "refine", change)
    with pytest.raises(BundleError) as caught:
        load(broken.root)
    line = str(caught.value)
    assert line.startswith(f"ONNX Runtime cannot load a stage ({text}"), line
    assert line.endswith(f"): {broken.root / 'refine.onnx'}: {REMEDY}")
    assert len(caught.value.what) < 300


def test_an_error_without_words_is_named_by_its_kind() -> None:
    assert first_line(RuntimeError()) == "RuntimeError"


def test_a_bundle_runs_from_a_folder_whose_name_is_no_utf_8(
    contrast_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        shutil.copytree(contrast_bundle, folder)
    except OSError:
        pytest.skip("this file system refuses such names")
    with load(folder) as pipeline:
        assert len(pipeline.propose(np.zeros((60, 90, 3), np.uint8))) >= 0


def test_a_model_that_cannot_be_loaded_is_told_without_a_banner(
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 3
    options.add_session_config_entry("session.intra_op_thread_affinities", "nonsense")
    with pytest.raises(RuntimeError, match="nonsense"):
        open_session(b"", options)
    assert capfd.readouterr() == ("", "")
